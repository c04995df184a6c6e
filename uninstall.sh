#!/bin/sh
# Removes solarbridge. The configuration, and with it the state and the user that owns them, stay unless --purge.
set -eu
umask 022
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
# shellcheck source=systemd/common.sh
. "$here/systemd/common.sh"

usage() {
    cat <<'END'
usage: sudo ./uninstall.sh [OPTION...]
  --purge         remove the configuration, the state and the user too
  --dry-run       show every step, do none
  --root DIR      in DIR, an image's or a test's root folder
  --system KIND   systemd, venus or plain (neither of both), instead of finding out
END
}

purge=""
while [ $# -gt 0 ]; do
    case $1 in
    --purge) purge=yes ;;
    --dry-run) dry=yes ;;
    --root | --system)
        needs_value "$1" $#
        if [ "$1" = --root ]; then set_root "$2"; else kind=$2; fi
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
[ -n "$kind" ] || kind=$(kind_of_system)
paths
need_root

# no_longer GROUP-OR-USER COMMAND: remove it where it is
no_longer() {
    if [ -z "$root" ] && getent "$1" "$2" >/dev/null; then
        act "$3" "$2"
    fi
}

remove_user() {
    no_longer passwd solarbridge userdel
    no_longer group solarbridge groupdel # where userdel leaves it
    no_longer group solarbridge-hid groupdel
}

# empty_gone PATH...: remove folders that were made for us and that nobody else uses
empty_gone() {
    for path in "$@"; do
        if [ -d "$root$path" ] && [ -z "$(ls -A -- "$root$path")" ]; then
            act rmdir -- "$root$path"
        fi
    done
}

without_systemd() {
    if [ -e "$root/etc/systemd/system/solarbridge.service" ]; then
        live systemctl stop solarbridge.service var-log-solarbridge.mount
    fi
    gone /etc/systemd/system/multi-user.target.wants/solarbridge.service /etc/systemd/system/solarbridge.service \
        /etc/systemd/system/var-log-solarbridge.mount /etc/udev/rules.d/60-solarbridge.rules \
        /etc/sysusers.d/solarbridge.conf /etc/tmpfiles.d/solarbridge.conf /usr/local/bin/solarbridge "$app"
    empty_gone "$logs" /etc/sysusers.d
    [ -n "$changed" ] || return 0
    live systemctl daemon-reload
    reload_udev
}

without_venus() {
    if [ -z "$root" ] && [ -e /service/solarbridge ]; then
        # the link first, else the supervisor starts it again
        act mv -- /service/solarbridge "$app/leaving"
        act svc -dx "$app/leaving" "$app/leaving/log" || true
    fi
    gone /service/solarbridge /run/udev/rules.d/zz-solarbridge.rules
    line="$app/boot.sh"
    if grep -qxF "$line" "$root/data/rc.local" 2>/dev/null; then
        work=$(mktemp)
        grep -vxF "$line" "$root/data/rc.local" >"$work" || true
        if [ "$(cat "$work")" = "#!/bin/sh" ]; then
            gone /data/rc.local # it was made for that line alone
        else
            put "$(stat -c %a "$root/data/rc.local")" "$work" /data/rc.local
        fi
        rm -f -- "$work"
    fi
    gone "$app" "$logs"
    empty_gone /data/apps
}

# await_end PROCESS: until it has ended it needs its files, and its user cannot be removed
await_end() {
    tries=15 # seconds
    while [ -n "$(tr -d '\0' 2>/dev/null <"$1/cmdline")" ] && [ "$tries" -gt 0 ]; do
        sleep 1
        tries=$((tries - 1))
    done
}

without_plain() {
    say "If you start it by a line in /etc/rc.local or the like, take that out."
    if [ -z "$root" ]; then
        for process in /proc/[0-9]*; do
            # the wrapper ends its child with it
            if tr '\0' '\n' 2>/dev/null <"$process/cmdline" | grep -qxF "$app/restart.sh"; then
                act kill "${process##*/}" || true
                [ -n "$dry" ] || await_end "$process"
            fi
        done
    fi
    gone /etc/udev/rules.d/60-solarbridge.rules /usr/local/bin/solarbridge "$app" "$logs"
    [ -z "$changed" ] || reload_udev
}

say "Removing solarbridge ($kind)"
"without_$kind"
if [ -n "$purge" ]; then
    gone "$etc" "$state" /etc/credstore/solarbridge.mqtt-password
    [ "$kind" = venus ] || remove_user
fi

if [ -n "$dry" ]; then exit 0; fi
[ -n "$changed" ] || say "Nothing to do: it is not there."
if [ -z "$purge" ] && [ -e "$root$etc" ]; then
    say "Kept: $etc and $state (--purge removes them)."
fi
