# shellcheck shell=sh disable=SC2034
# What install.sh and uninstall.sh share; each sources it after setting $here, the folder of the sources.
# Every change goes through `act` or `put`, so that --dry-run shows each and does none.

root=""       # --root DIR: before every path, for images and tests
kind=""       # systemd, venus or plain
dry=""        # --dry-run
changed=""    # whether anything was done
unfinished="" # install.sh: the file that says so to the next run until all is done, and what ran before

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

change() {
    changed=yes
    if [ -n "$unfinished" ] && [ -z "$dry" ] && [ ! -e "$root$unfinished" ]; then
        before=$(readlink -- "$root$app/current" || true) # nothing where it is new
        printf '%s\n' "$before" >"$root$unfinished" || fail "$root$unfinished cannot be written."
    fi
}

# act WORD...: show the command, and run it unless --dry-run
act() {
    change
    if [ -n "$dry" ]; then
        say "would: $*"
        return 0
    fi
    say "  $*"
    "$@"
}

# put MODE SOURCE PATH: a file with this content and mode, written whole or not at all, only when it differs
put() {
    if [ -f "$root$3" ] && [ ! -L "$root$3" ] && cmp -s "$2" "$root$3" && [ -n "$(find "$root$3" -perm "$1")" ]; then
        return 0
    fi
    change
    if [ -n "$dry" ]; then
        say "would: write $root$3"
        return 0
    fi
    say "  write $root$3"
    folder=$(dirname -- "$root$3")
    [ -d "$folder" ] || mkdir -p -- "$folder"
    new=$(mktemp "$folder/.solarbridge.XXXXXX") # a name nobody can foresee, in the folder it is renamed in
    if ! { cat -- "$2" >"$new" && chmod "$1" "$new" && mv -f -- "$new" "$root$3"; }; then
        rm -f -- "$new"
        fail "$root$3 cannot be written."
    fi
}

# link TARGET PATH: a symbolic link, replaced in one step
link() {
    [ "$(readlink -- "$root$2" 2>/dev/null)" = "$1" ] && return 0
    folder=$(dirname -- "$root$2")
    [ -d "$folder" ] || act mkdir -p -- "$folder"
    change
    if [ -n "$dry" ]; then
        say "would: link $root$2 to $1"
        return 0
    fi
    say "  link $root$2 to $1"
    place=$(mktemp -d "$folder/.solarbridge.XXXXXX")
    ln -s -- "$1" "$place/link" && mv -fT -- "$place/link" "$root$2"
    rm -rf -- "$place"
}

# gone PATH...: remove files, links and folders that are there
gone() {
    for path in "$@"; do
        if [ -e "$root$path" ] || [ -L "$root$path" ]; then
            act rm -rf -- "$root$path"
        fi
    done
}

# live COMMAND...: run on the system itself, which with --root is another one, and in a chroot is not running
live() {
    if [ -z "$root" ] && running; then
        act "$@"
    fi
}

# The rules for what is plugged in now; a container has no udev, which is no reason to stop.
reload_udev() {
    if [ -S /run/udev/control ]; then
        live udevadm control --reload
        live udevadm trigger --subsystem-match=hidraw --action=change
    fi
}

running() {
    case $kind in
    systemd) [ -d /run/systemd/system ] ;;
    *) true ;;
    esac
}

# kind_of_system: Venus OS by its software's folder, systemd by its presence, anything else is plain
kind_of_system() {
    if [ -d "$root/opt/victronenergy" ]; then
        echo venus
    elif [ -n "$root" ] || [ -d /run/systemd/system ]; then
        echo systemd
    else
        echo plain
    fi
}

# runs FOLDER: the processes that run the program in it. Its Python is called by its full name; on Venus OS, where it has
# none of its own, the environment names the folder. One in a container has another folder of that name.
runs() {
    for process in /proc/[0-9]*; do
        if cat -- "$process/cmdline" "$process/environ" 2>/dev/null | tr '\0' '\n' |
            grep -qxF -e "$1/bin/python" -e "PYTHONPATH=$1/lib" &&
            [ "$(stat -L -c %d:%i "$process/root$1" 2>/dev/null)" = "$(stat -L -c %d:%i "$1")" ]; then
            echo "${process##*/}"
        fi
    done
}

# wrapped PROCESS: whether restart.sh started it, and so starts it again
wrapped() {
    parent=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$1/status" 2>/dev/null)
    [ "$(tr '\0' '\n' 2>/dev/null <"/proc/$parent/cmdline" | sed -n 2p)" = "$app/restart.sh" ]
}

# needs_value OPTION COUNT: COUNT words are left, the option among them
needs_value() { [ "$2" -ge 2 ] || fail "$1 needs a value; see --help"; }

# set_root DIR: the folder has to be there, and is used by its full name
set_root() {
    [ -d "$1" ] || fail "--root: $1 is not a folder"
    root=$(cd -- "$1" && pwd -P)
    [ "$root" != / ] || root=""
}

# paths: where things are on this kind of system
paths() {
    case $kind in
    systemd | plain)
        app=/opt/solarbridge
        etc=/etc/solarbridge
        state=/var/lib/solarbridge
        logs=/var/log/solarbridge
        ;;
    venus)
        app=/data/apps/solarbridge
        etc=/data/conf/solarbridge
        state=/data/var/lib/solarbridge
        logs=/run/solarbridge/log
        ;;
    *) fail "--system: $kind is none of systemd, venus, plain" ;;
    esac
    config=$etc/config.yaml
}

need_root() {
    [ -n "$root$dry" ] || [ "$(id -u)" = 0 ] || fail "Please type: sudo $0"
}
