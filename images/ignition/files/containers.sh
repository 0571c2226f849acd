#!/bin/sh
# Run by boot2podman-containers.service, root's and the user's: `start` after a boot, `stop` before the power goes.
#
# Podman's own podman-restart.service starts `unless-stopped` containers in recent versions only, and in some of those
# the unit's own stop counts as the user's. Up to 5.7 Podman does not remember over a boot who stopped a container. So
# `stop` notes which of those containers ran; and a container that has started since it last ended was cut off with the
# power.
set -u

state=${STATE_DIRECTORY:-/var/lib/boot2podman}
ran=$state/running-containers
ended=$state/stop-status
mounts=/proc/mounts
# What Podman says of containers that cannot be started; await-containers.sh reads it.
errors=${RUNTIME_DIRECTORY:-}/errors
# By this, Podman would keep what watches the containers in the service itself.
unset INVOCATION_ID

# Seconds from the beginning of `stop`. systemd ends it after 70 s, and the host waits 90 s for the guest to switch off.
own_time_s=50
all_time_s=66

fields='{{.ID}} {{.HostConfig.RestartPolicy.Name}} {{.State.Status}} {{.State.StartedAt.UnixNano}} {{.State.FinishedAt.UnixNano}}'

# One line with these fields for each container. One that is damaged keeps Podman from describing the others.
describe() {
    if described=$(podman container inspect --format "$fields" "$@" 2>/dev/null); then
        printf '%s\n' "$described"
    else
        for id; do
            podman container inspect --format "$fields" "$id"
        done
    fi
}

list_due() {
    describe "$@" | while read -r id policy _ started finished; do
        if [ "$policy" = always ] || [ "$started" -gt "$finished" ] || grep -qsxF "$id" "$ran"; then
            echo "$id"
        fi
    done
}

# Rootless containers take their addresses from the network that they find. The user's systemd knows no network-online.
await_network() {
    command -v systemctl >/dev/null || return
    seconds=0
    until systemctl is-active --quiet network-online.target || [ $((seconds += 1)) -gt 90 ]; do
        sleep 1
    done
}

# A folder that sshfs mounts is there when the host has connected; a container that starts earlier would never see it.
await_folders() {
    seconds=0
    while is_folder_missing && [ $((seconds += 1)) -le 90 ]; do
        sleep 1
    done
}

is_folder_missing() {
    awk '{ top[$2] = $1 } END { for (place in top) if (top[place] ~ /^folder-.*-none$/) exit 0; exit 1 }' "$mounts"
}

# Whether Podman may have a container. Found out without Podman, which takes a second under emulation. The units say
# where the containers are, unless a storage.conf does.
has_containers() {
    [ -n "${STORAGE:-}" ] || return 0
    for file in /etc/containers/storage.conf "${HOME:-/root}/.config/containers/storage.conf" \
        "$STORAGE"/*-containers/*/userdata "$STORAGE"/libpod/*/userdata; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

start() {
    has_containers || return
    ids=$(podman ps --all --quiet --no-trunc --filter restart-policy=always --filter restart-policy=unless-stopped)
    # shellcheck disable=SC2086  # one word each
    [ -z "$ids" ] || ids=$(list_due $ids)
    if [ -n "$ids" ]; then
        await_network
        await_folders
        # shellcheck disable=SC2086
        timeout 600 podman start $ids
    fi
    rm -f "$ran"
}

# Podman names containers by their IDs.
name_containers() {
    names=$(podman ps --all --no-trunc --format '{{.ID}} {{.Names}}' | sed 's,\([^ ]*\) \([^ ]*\).*,s/\\b\1\\b/\2/g,')
    sed -i "$names" "$errors"
}

# Not by the clock, which may be set meanwhile.
seconds_up() {
    read -r up _ </proc/uptime
    echo "${up%.*}"
}

# To find out which containers run takes a busy guest seconds.
seconds_until() {
    left=$((began + $1 - $(seconds_up)))
    [ "$left" -gt 0 ] || left=1
    echo "$left"
}

stop() {
    has_containers || return
    began=$(seconds_up)
    ids=$(podman ps --quiet --no-trunc --filter status=running --filter status=paused)
    [ -n "$ids" ] || return
    # shellcheck disable=SC2086
    described=$(describe $ids)
    mkdir -p "$state"
    printf '%s\n' "$described" | awk '$2 == "unless-stopped" { print $1 }' >"$ran.new"
    sync "$ran.new" 2>/dev/null || sync
    mv "$ran.new" "$ran"
    paused=$(printf '%s\n' "$described" | awk '$3 == "paused" { print $1 }')
    # shellcheck disable=SC2086
    [ -z "$paused" ] || podman unpause $paused
    rm -f "$ended"
    {
        podman stop --all
        echo $? >"$ended"
    } &
    until [ -s "$ended" ] || [ "$(seconds_until $own_time_s)" -le 1 ]; do
        sleep 0.5
    done
    # The first Podman would not end before its containers, but the second may stop them meanwhile.
    grep -qsx 0 "$ended" || timeout "$(seconds_until $all_time_s)" podman stop --all --time 0
    # The host turns off a guest that does not end, for instance because its programs hang in a folder.
    sync -f "$state" 2>/dev/null
}

command -v podman >/dev/null || exit 0
case $1 in
start)
    # Without systemd, as in Alpine, there is no such directory, and nobody asks.
    [ -n "${RUNTIME_DIRECTORY:-}" ] || {
        start
        exit 0
    }
    start 2>"$errors"
    [ ! -s "$errors" ] || name_containers
    cat "$errors" >&2
    ;;
stop) stop ;;
esac
# systemd stops only what has started well.
exit 0
