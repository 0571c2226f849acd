#!/bin/bash
# Runs the user's scripts, each once and in the order of their numbers, up to the first that fails. What comes of each is
# in `results`: its output, and its exit status, which is `began` until it has ended, so that none that was interrupted,
# perhaps by a restart of its own, runs twice. With `report`, print how it went, as machine/ops/start_scripts.py
# reads it.
set -u
user=@USERNAME@
cd /var/lib/boot2podman/provision && mkdir -p results || exit

status_of() {
    cat "results/$1.status" 2>/dev/null || echo waiting
}

if [ "${1-}" = report ]; then
    for path in scripts/*; do
        script=${path#scripts/}
        echo "$(status_of "$script") $script"
        tail -n 15 "results/$script.log" 2>/dev/null | sed 's/^/| /'
    done
    exit
fi

# A script without a first line that names its interpreter is the shell's.
run() {
    local words=("$1") home
    [ "$(head -c 2 "$1")" = '#!' ] || words=(/bin/sh "$1")
    case $1 in
    */[0-9]*-user-*)
        home=$(getent passwd "$user" | cut -d: -f6)
        runuser -u "$user" -- env -C "$home" HOME="$home" USER="$user" LOGNAME="$user" \
            XDG_RUNTIME_DIR="/run/user/$(id -u "$user")" "${words[@]}"
        ;;
    *) env -C /root HOME=/root USER=root LOGNAME=root "${words[@]}" ;;
    esac
}

for path in scripts/*; do
    script=${path#scripts/}
    if [ "$(status_of "$script")" = waiting ]; then
        echo began >"results/$script.status"
        sync
        run "$PWD/$path" </dev/null >"results/$script.log" 2>&1
        echo "$?" >"results/$script.status"
    fi
    [ "$(status_of "$script")" = 0 ] || exit 1
done
