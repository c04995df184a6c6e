# shellcheck shell=sh disable=SC2154,SC2034
# The program and its packages, in a folder named after what they are made from; install.sh sources this file.
# It needs $here, $root, $app, $kind, $python and $offline.

# What the packages of an installation are made from, and what all of it is: a change of either makes a new one.
packages_stamp() {
    {
        cat -- "$here/requirements.lock" "$here/tools/unpack.py" "$here/systemd/packages.sh"
        "$python" -c 'import sys; print(sys.executable, sys.version_info[:2])'
    } | sha256sum | cut -c1-10
}

stamp() {
    (
        cd -- "$here" || exit
        find bridge -name '*.py' -type f -exec sha256sum {} + | LC_ALL=C sort
        cat systemd/solarbridge.sh
        packages_stamp
    ) | sha256sum | cut -c1-10
}

# Whether the index has ready-made wheels for this machine; the others take the pure Python part of any.
ready_made() {
    [ "$kind" != venus ] && "$python" - <<'END'
import platform, sys
known = platform.machine() in ("x86_64", "aarch64") and sys.maxsize > 2**32 and platform.libc_ver()[0] == "glibc"
sys.exit(not (known and sys.version_info[:2] in ((3, 11), (3, 12), (3, 13), (3, 14))))
END
}

pip_failed() {
    rm -rf -- "$root$release"
    fail "The Python packages did not arrive (see above). With no network here, run 'make wheels' elsewhere, copy this
folder with its wheels/, and try again. Nothing was changed."
}

# fetch PYTHON FOLDER: any wheels the lock names, for unpack.py
fetch() {
    "$1" -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
        --require-hashes --platform manylinux2014_x86_64 --python-version 3.12 \
        --dest "$2" --requirement "$here/requirements.lock"
}

# The packages of the installation there is, if they are the same: an upgrade then takes a second.
packages_as_before() {
    [ "$(cat -- "$root$app/current/packages" 2>/dev/null)" = "$(packages_stamp)" ] || return 1
    cp -R -- "$root$app/current/." "$root$release/"
    rm -f -- "$root$release/complete"
    site=$(dirname -- "$(find "$root$release/lib" -name bridge -prune)")
    rm -rf -- "$site/bridge"
}

pip_install() {
    set -- --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-deps --only-binary :all: --require-hashes
    [ -z "$offline" ] || set -- "$@" --no-index --find-links "$offline"
    "$venv/bin/python" -m pip install "$@" --requirement "$here/requirements.lock"
}

# unpack PYTHON: the pure Python part of wheels for any machine, without pip's choice
unpack() {
    wheels=$offline
    if [ -z "$wheels" ]; then
        wheels=$root$release/wheels
        fetch "$1" "$wheels" || pip_failed
    fi
    "$python" -I "$here/tools/unpack.py" "$here/requirements.lock" "$wheels" "$site" || pip_failed
    rm -rf -- "$root$release/wheels"
}

packages_into_venv() {
    venv=$root$release
    "$python" -m venv "$venv" || pip_failed
    site=$("$venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    if ready_made; then
        if ! pip_install; then
            [ -n "$offline" ] || pip_failed
            say "  the wheels in $offline are not for this kind of machine: taking their pure Python part"
            unpack "$venv/bin/python"
        fi
    else
        say "  no ready-made packages for this kind of machine: taking their pure Python part"
        unpack "$venv/bin/python"
    fi
    # nothing is installed into it later, so it needs no tools for that
    rm -rf -- "$site/pip" "$site"/pip-* "$site/setuptools" "$site"/setuptools-* "$site/pkg_resources" \
        "$site/_distutils_hack" "$site/distutils-precedence.pth" "$venv/include"
    find "$venv/bin" ! -type d ! -name 'python*' -exec rm -f {} +
}

packages_into_folder() {
    site=$root$release/lib
    mkdir -p -- "$site" "$root$release/bin"
    if [ -z "$offline" ] && ! "$python" -m pip --version >/dev/null 2>&1; then
        rm -rf -- "$root$release"
        fail "Venus OS comes without pip. Either type this, then try again:
    opkg update && opkg install python3-pip
or run 'make wheels' on another machine and copy this folder with its wheels/. Nothing was changed."
    fi
    unpack "$python"
}

install_program() {
    release=$app/$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$here/bridge/__init__.py")-$(stamp)
    if [ -e "$root$release/complete" ]; then
        switch_program
        return
    fi
    changed=yes
    if [ -n "$dry" ]; then
        say "would: install the program and its packages into $root$release"
        say "would: link $root$app/current to ${release##*/}"
        return
    fi
    say "  install the program and its packages into $root$release"
    rm -rf -- "$root$release" # of an install that was cut short
    mkdir -p -- "$root$release"
    if packages_as_before; then
        :
    elif [ "$kind" = venus ]; then
        packages_into_folder
    else
        packages_into_venv
    fi
    packages_stamp >"$root$release/packages"
    cp -R -- "$here/bridge" "$site/"
    find "$site/bridge" -name __pycache__ -prune -exec rm -rf {} +
    chmod -R u=rwX,go=rX "$root$release"
    # the service may not write here, so what it would compile at every start is compiled now
    "$python" -m compileall -q -s "$root" -p / "$site" || true
    put 755 "$here/systemd/solarbridge.sh" "$release/bin/solarbridge"
    : >"$root$release/complete"
    switch_program
}

accepts_config() { "$app/$1/bin/solarbridge" check --config "$config" >/dev/null 2>&1; }

# From now on what is started is the new version; so not if it refuses a configuration that the one before takes.
switch_program() {
    new=${release##*/}
    if [ -z "$root$dry" ] && [ "$(readlink -- "$app/current")" != "$new" ] && accepts_config current &&
        ! accepts_config "$new"; then
        "$release/bin/solarbridge" check --config "$config" >/dev/null || true # says why
        fail "The new version refuses $config. What you have goes on running; mend that, then run this again."
    fi
    link "$new" "$app/current"
}

old_programs() {
    for old in "$root$app"/[0-9]*-*/; do
        old=${old%/}
        if [ -d "$old" ] && [ "$old" != "$root$release" ]; then
            echo "${old##*/}"
        fi
    done
}

# The program loads some of its parts only when they are needed, so a folder stays while anything runs from it.
remove_old_programs() {
    for old in $(old_programs); do
        running_old=""
        [ -n "$root$dry" ] || running_old=$(runs "$app/$old")
        tries=15 # seconds, for what was told to end
        while [ -n "$running_old" ] && [ "$tries" -gt 0 ]; do
            sleep 1
            tries=$((tries - 1))
            running_old=$(runs "$app/$old")
        done
        if [ -z "$running_old" ]; then
            act rm -rf -- "$root$app/$old"
        fi
        for process in $running_old; do
            still="$still $process"
        done
    done
}
