#!/bin/sh
# restart.sh COMMAND [ARGUMENT...]: keeps a program running on systems without systemd.
#
# It starts COMMAND again 10 s after it ended, later and later while it keeps ending soon (up to 300 s), and passes
# SIGTERM, SIGINT and SIGHUP on to it. TERM and INT end the wrapper too, with the program's exit status. Status 2 means
# that the configuration is wrong: nothing is started again. One line on stderr for each end, at most one a pause.
#
# RESTART_DELAY_MS, RESTART_DELAY_MAX_MS: the pauses in milliseconds. RESTART_STEADY: a run of as many seconds was good.
set -u
delay_first=${RESTART_DELAY_MS:-10000}
delay_max=${RESTART_DELAY_MAX_MS:-300000}
steady=${RESTART_STEADY:-600}
[ $# -gt 0 ] || {
    echo "usage: restart.sh COMMAND [ARGUMENT...]" >&2
    exit 2
}

child=""
pause=""
ending=""
for signal in TERM INT HUP; do
    # the signal's name is meant to be filled in now, the rest when it comes
    # shellcheck disable=SC2064
    trap "on_signal $signal" "$signal"
done

on_signal() {
    [ "$1" = HUP ] || ending=$1
    [ -z "$child" ] || kill -s "$1" "$child" 2>/dev/null
    # a signal that can be caught is lost on a child that is still the shell, before it becomes `sleep`
    [ -z "$pause" ] || [ -z "$ending" ] || kill -s KILL "$pause" 2>/dev/null
}

# Seconds since the machine started: the wall clock may be set meanwhile.
now() {
    if read -r uptime _ 2>/dev/null </proc/uptime; then echo "${uptime%%.*}"; else date +%s; fi
}

# in_seconds MILLISECONDS: 10000 is 10, 100 is 0.100 (not every `sleep` knows fractions; nobody but tests needs them)
in_seconds() {
    if [ $(($1 % 1000)) = 0 ]; then echo $(($1 / 1000)); else printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)); fi
}

# Wait for the child itself: a signal ends `wait` early.
await_child() {
    while :; do
        wait "$child" 2>/dev/null # where the shell would say "Killed"
        status=$?
        kill -0 "$child" 2>/dev/null || return
    done
}

delay=$delay_first
while :; do
    began=$(now)
    "$@" &
    child=$!
    [ -z "$ending" ] || kill -s "$ending" "$child" 2>/dev/null # it came before there was a child
    await_child
    child=""
    [ -z "$ending" ] || exit "$status"
    if [ "$status" = 2 ]; then
        echo "restart.sh: the configuration is wrong (see above); mend it and start again" >&2
        exit 2
    fi
    [ $(($(now) - began)) -lt "$steady" ] || delay=$delay_first
    echo "restart.sh: ended with status $status; starts again in $(in_seconds "$delay") s" >&2
    sleep "$(in_seconds "$delay")" &
    pause=$!
    [ -z "$ending" ] || kill -s KILL "$pause" 2>/dev/null # it came before there was a pause
    while kill -0 "$pause" 2>/dev/null; do wait "$pause" 2>/dev/null; done
    pause=""
    [ -z "$ending" ] || exit 0
    delay=$((delay * 2))
    [ "$delay" -le "$delay_max" ] || delay=$delay_max
done
