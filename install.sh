#!/bin/sh
# Installs solarbridge, or brings an installation up to date; keeps configuration and state, asks nothing.
# What it does on which system: README.md, "Install".
set -eu
umask 022
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=systemd/common.sh
. "$here/systemd/common.sh"
# shellcheck source=systemd/packages.sh
. "$here/systemd/packages.sh"

usage() {
    cat <<'END'
usage: sudo ./install.sh [OPTION...]
  --dry-run           show every step, do none
  --choose            afterwards look for devices and open the configuration in an editor
  --log-size MB       size of the log's place in memory (default: 50; on Venus OS 5)
  --offline FOLDER    take the Python packages from wheels in this folder (`make wheels` fills ./wheels, which is
                      used by itself when it is there)
  --root DIR          install into DIR, an image's or a test's root folder
  --system KIND       systemd, venus or plain (neither of both), instead of finding out
  --python PATH       the Python to use, 3.11 or newer
END
}

log_size=""
offline=""
choose=""
python=""
[ ! -d "$here/wheels" ] || offline=$here/wheels
while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry=yes ;;
    --choose) choose=yes ;;
    --log-size | --offline | --root | --system | --python)
        needs_value "$1" $#
        case $1 in
        --log-size) log_size=$2 ;;
        --offline) offline=$2 ;;
        --root) set_root "$2" ;;
        --system) kind=$2 ;;
        --python) python=$2 ;;
        esac
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 1
        ;;
    esac
    shift
done

# -- before anything is changed: is everything there

[ -n "$kind" ] || kind=$(kind_of_system)
paths
need_root
case $log_size in
'') ;;
*[!0-9]* | 0* | ??????*) fail "--log-size: expected megabytes from 1 to 99999, not '$log_size'" ;;
esac
if [ -n "$offline" ]; then
    [ -d "$offline" ] || fail "--offline: $offline is not a folder"
    offline=$(cd -- "$offline" && pwd -P)
fi
[ -z "$choose" ] || [ -t 0 ] || fail "--choose asks questions and needs a terminal"

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The service's user must be able to run it, so a Python in somebody's home does not count.
find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        for folder in /usr/bin /usr/local/bin; do
            if [ -x "$folder/$name" ] && fits "$folder/$name"; then
                echo "$folder/$name"
                return
            fi
        done
    done
}

[ -n "$python" ] || python=$(find_python)
[ -n "$python" ] || fail "solarbridge needs Python 3.11 or newer in /usr/bin; this system has $(python3 --version 2>&1)."
fits "$python" || fail "$python is not Python 3.11 or newer."
if [ "$kind" != venus ] && ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    # Debian names the package after the very interpreter
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    fail "Needed and not found: $package. Please type this, then try again:
    sudo apt-get update && sudo apt-get install -y --no-install-recommends $package"
fi
if [ "$kind" = venus ]; then
    case $(sed -n '1s/^v//p' "$root/opt/victronenergy/version" 2>/dev/null) in
    3.[6-9]* | [4-9].*) ;;
    # unconfirmed: the file's form is known from other projects, no GX was at hand
    *) say "Venus OS older than v3.60, or of unknown version: this was made for v3.60 and newer." ;;
    esac
fi

# -- what stands around it

# The size asked for, else the one there is, else the default.
size_of_log() {
    if [ -n "$log_size" ]; then
        echo "$log_size"
    elif [ -f "$root/etc/systemd/system/var-log-solarbridge.mount" ] && [ "$kind" = systemd ]; then
        sed -n 's/.*size=\([0-9]*\)M.*/\1/p' "$root/etc/systemd/system/var-log-solarbridge.mount"
    elif [ "$kind" = venus ] && [ -f "$root$app/service/log/run" ]; then
        sed -n 's/.* n\([0-9]*\) .*/\1/p' "$root$app/service/log/run"
    elif [ "$kind" = venus ]; then
        echo 5
    else
        echo 50
    fi
}

# filled SED-SCRIPT SOURCE MODE PATH: put a file with its place holders filled in
filled() {
    work=$(mktemp)
    sed -e "$1" "$2" >"$work"
    put "$3" "$work" "$4"
    rm -f -- "$work"
}

first_config() {
    [ ! -e "$root$config" ] || return 0
    # on a dry run by who may not look into the folder it seems not to be there
    [ -z "$dry" ] || [ ! -d "$root$etc" ] || [ -x "$root$etc" ] || return 0
    [ -d "$root$etc" ] || act mkdir -p -m 0750 -- "$root$etc"
    work=$(mktemp)
    cat -- "$here/config.example.yaml" >"$work"
    if [ "$kind" != venus ]; then
        printf '\nlogging:\n  directory: %s\n  max_megabytes: %s\n' "$logs" "$room" >>"$work"
    fi
    put 640 "$work" "$config"
    rm -f -- "$work"
}

# An image that has booted before makes new users only when its /usr is newer than its last look (ConditionNeedsUpdate).
user_at_boot() {
    if [ -n "$root" ] && [ -e "$root/etc/.updated" ] && ! grep -q '^solarbridge:' "$root/etc/passwd" 2>/dev/null &&
        [ -z "$(find "$root/usr" -prune -newer "$root/etc/.updated")" ]; then
        act touch -- "$root/usr"
    fi
}

around_systemd() {
    put 644 "$here/systemd/sysusers.conf" /etc/sysusers.d/solarbridge.conf
    put 644 "$here/systemd/tmpfiles.conf" /etc/tmpfiles.d/solarbridge.conf
    # an image makes the user and hands the files over when it boots, by these two files
    if [ -z "$root" ] && ! { id -nG solarbridge 2>/dev/null | grep -q solarbridge-hid; }; then
        act systemd-sysusers /etc/sysusers.d/solarbridge.conf
    fi
    first_config
    [ -n "$root$dry" ] || systemd-tmpfiles --create /etc/tmpfiles.d/solarbridge.conf
    user_at_boot
    put 644 "$here/systemd/60-solarbridge.rules" /etc/udev/rules.d/60-solarbridge.rules
    filled "s/size=50M/size=${size}M/" "$here/systemd/var-log-solarbridge.mount" 644 \
        /etc/systemd/system/var-log-solarbridge.mount
    put 644 "$here/systemd/solarbridge.service" /etc/systemd/system/solarbridge.service
    link /etc/systemd/system/solarbridge.service /etc/systemd/system/multi-user.target.wants/solarbridge.service
    link "$app/current/bin/solarbridge" /usr/local/bin/solarbridge
    [ -n "$changed" ] || return 0
    reload_udev
    live systemctl daemon-reload
    if running && [ -z "$root" ] && systemctl --quiet is-active var-log-solarbridge.mount; then
        # a new size, which is refused where the files are larger
        live systemctl reload var-log-solarbridge.mount ||
            say "$logs keeps the size it has until this machine starts again: there may be more than $size MB in it."
    fi
    live systemctl try-restart solarbridge.service || go_back
}

go_back() {
    before=$(cat -- "$unfinished")
    if [ -n "$before" ] && [ "$before" != "${release##*/}" ]; then
        link "$before" "$app/current"
        live systemctl restart solarbridge.service &&
            fail "The new version does not start: journalctl -u solarbridge says why. The version before runs again."
    fi
    fail "It does not start: journalctl -u solarbridge says why. Mend that, then run this again."
}

# How large its files may become is said in the configuration, which is not ours to change.
check_log_fits() {
    shown=$("$root$app/current/bin/solarbridge" check --config "$root$config" 2>/dev/null) || return 0
    allowed=$(printf '%s\n' "$shown" | sed -n 's/^  max_megabytes: //p')
    if printf '%s\n' "$shown" | grep -qxF "  directory: $logs" && [ "$allowed" -gt "$size" ]; then
        say "$logs has room for $size MB, the log may take $allowed: set logging.max_megabytes to $room in $config."
    fi
}

around_venus() {
    first_config
    [ -d "$root$state" ] || act mkdir -p -m 0700 -- "$root$state"
    put 755 "$here/systemd/venus/run" "$app/service/run"
    filled "s/ n5 / n$size /" "$here/systemd/venus/log-run" 755 "$app/service/log/run"
    put 644 "$here/systemd/venus/ports.py" "$app/ports.py"
    put 755 "$here/systemd/venus/boot.sh" "$app/boot.sh"
    line="$app/boot.sh"
    if ! grep -qxF "$line" "$root/data/rc.local" 2>/dev/null; then
        work=$(mktemp)
        # right below the first line: a file that others made may end with `exit`
        if [ -f "$root/data/rc.local" ]; then
            { sed -n '1p' "$root/data/rc.local"; echo "$line"; sed -n '2,$p' "$root/data/rc.local"; } >"$work"
        else
            printf '#!/bin/sh\n%s\n' "$line" >"$work"
        fi
        put 755 "$work" /data/rc.local
        rm -f -- "$work"
    fi
    [ -n "$changed" ] || return 0
    if [ -z "$root" ] && [ -e /service/solarbridge ]; then
        live svc -t /service/solarbridge
    fi
}

around_plain() {
    if [ -z "$root" ] && ! id solarbridge >/dev/null 2>&1; then
        act groupadd --system solarbridge-hid
        act useradd --system --user-group --home-dir "$state" --shell /usr/sbin/nologin \
            --groups dialout,solarbridge-hid solarbridge
    fi
    first_config
    for folder in "$state" "$logs"; do
        [ -d "$root$folder" ] || act mkdir -p -m 0700 -- "$root$folder"
    done
    if [ -z "$root$dry" ]; then
        chgrp solarbridge "$etc" "$config"
        chown solarbridge:solarbridge "$state" "$logs"
    fi
    put 644 "$here/systemd/60-solarbridge.rules" /etc/udev/rules.d/60-solarbridge.rules
    put 755 "$here/systemd/restart.sh" "$app/restart.sh"
    link "$app/current/bin/solarbridge" /usr/local/bin/solarbridge
    [ -z "$changed" ] || reload_udev
    [ -z "$root" ] || return 0
    for old in $(old_programs); do
        for process in $(runs "$app/$old"); do
            # without restart.sh it would end for good
            if wrapped "$process"; then
                act kill "$process" || true
                say "  restart.sh starts the new version in some seconds"
            fi
        done
    done
}

# -- and now

if [ -n "$dry" ]; then say "A dry run: nothing is changed."; else say "Installing solarbridge ($kind)"; fi
size=$(size_of_log)
size=${size:-50}
# a little less than there is, since the files' last bytes do not fill their pages
room=$((size * 4 / 5 > 0 ? size * 4 / 5 : 1))
fresh=""
[ -e "$root$config" ] || fresh=yes
unfinished=$app/restart-needed
[ ! -e "$root$unfinished" ] || changed=yes
still=""
install_program
"around_$kind"
remove_old_programs

if [ -n "$dry" ]; then
    [ -n "$changed" ] || say "Nothing would change."
    exit 0
fi
rm -f -- "$root$unfinished"
[ "$kind" != systemd ] || check_log_fits
[ -n "$changed" ] || say "Nothing to do: it is installed as it is here."

command=solarbridge
sudo="sudo "
case $kind in
systemd) start="sudo systemctl start solarbridge" ;;
venus)
    sudo=""
    command=$app/current/bin/solarbridge
    start="$app/boot.sh"
    ;;
plain) start="sudo su -s /bin/sh solarbridge -c '$app/restart.sh $app/current/bin/solarbridge run' &     # at boot too" ;;
esac

if [ -n "$choose" ] && [ -z "$root" ]; then
    "$app/current/bin/solarbridge" scan || true
    "$app/current/bin/solarbridge" scan --probe || true # asks first
    editor=${EDITOR:-$(command -v nano || command -v editor || echo vi)}
    "$editor" "$config"
    "$app/current/bin/solarbridge" check --config "$config" >/dev/null || fail "Mend that, then: $start"
fi
if [ -n "$fresh" ]; then
    say "Installed. Next:
    ${sudo}$command scan          # what is connected; with --probe who answers (or once more: ${sudo}./install.sh --choose)
    ${sudo}nano $config
    ${sudo}$command check --config $config
    $start
Whether it works, and what to do if not: README.md, \"When something is wrong\"."
elif [ -n "$still" ]; then
    say "Installed, but the version before still runs (process$still) and keeps its folder.
Restart it, then run this again."
elif [ -n "$changed" ]; then
    say "Up to date; $config is as it was."
fi
