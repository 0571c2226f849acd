#!/bin/sh
# Run as root in a guest that has come up: SECONDS USER. Waits until systemd has started the containers that start with
# the guest, the system's and the user's: our own service, and what Quadlet has made of the user's files. Says
# `starting SERVICE` of each that is still being started when the time is over, `failed-service OWNER SERVICE` of each of
# Quadlet's that has failed, and `failed TEXT` with what Podman said of each container that our service could not start.
command -v systemctl >/dev/null || exit 0
user=$2
uid=$(id -u "$user") || exit 0

# UNIT and the words that run systemctl.
is_quadlets() {
    unit=$1
    shift
    "$@" show --property=FragmentPath "$unit" | grep -q /generator/
}

list_pending() {
    "$@" list-jobs --plain --no-legend | while read -r _ unit type _; do
        case "$type $unit" in
        "start boot2podman-containers.service") echo "$unit" ;;
        "start "*.service) is_quadlets "$unit" "$@" && echo "$unit" ;;
        esac
    done
}

# OWNER and the words that run systemctl.
list_failed() {
    owner=$1
    shift
    "$@" list-units --failed --type=service --plain --no-legend | while read -r unit _; do
        is_quadlets "$unit" "$@" && echo "failed-service $owner $unit"
    done
}

users_systemctl() {
    setpriv --reuid "$user" --regid "$user" --init-groups env XDG_RUNTIME_DIR="/run/user/$uid" systemctl --user "$@"
}

# Not by the clock, which may be set meanwhile.
seconds_up() {
    read -r up _ </proc/uptime
    echo "${up%.*}"
}

until=$(($(seconds_up) + $1))
while :; do
    pending=$(
        list_pending systemctl
        list_pending users_systemctl
    )
    [ -n "$pending" ] && [ "$(seconds_up)" -lt "$until" ] || break
    sleep 1
done
[ -z "$pending" ] || printf '%s\n' "$pending" | sed 's,^,starting ,'
list_failed root systemctl
list_failed "$user" users_systemctl
# The user may have put anything there.
timeout 5 sed -n 's/^Error: /failed /p' /run/boot2podman-containers/errors "/run/user/$uid/boot2podman-containers/errors" \
    2>/dev/null | head -n 20
