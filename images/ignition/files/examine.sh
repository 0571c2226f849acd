#!/bin/sh
# Prints facts by which the host tells what is wrong with this guest (machine/supervisor/vitals.py reads them).
#
# Arguments: the depth, and the rootless Podman's user and its uid. `brief` runs once a minute, so it starts few
# programs, which take an emulated guest a second or two. `full` adds what systemd and Podman say. `try` also starts a
# Podman that has failed; the next `try` tells the result. `quiet` does so after it has dropped the clients that wait:
# for them systemd would start a Podman that fails again and again. A guest without systemd has only the first part.
depth=$1 user=$2 uid=$3
export LC_ALL=C
cd /

eval "home=~$user"
read -r uptime _ </proc/uptime
echo "uptime $uptime"
# Free blocks for ordinary users, the size of a block, free inodes, all inodes.
stat -f -c 'space %a %S %d %c %T %n' /var "$home" /tmp /run "/run/user/$uid" 2>/dev/null
[ -w /var ] || echo read-only
podman=$(command -v podman) && [ -x "$podman" ] || echo no-podman
# 00010000 is the mark of a socket on which somebody listens.
grep -hE '^(MemTotal|MemAvailable|SwapFree):|^(oom_kill|btime) | 00010000 .*/podman/podman\.sock$' \
    /proc/meminfo /proc/vmstat /proc/stat /proc/net/unix

as_user() {
    XDG_RUNTIME_DIR=/run/user/$uid setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
}

# The words that run systemctl. Whether it is the user's, whose systemd is on its way, as it is for minutes in a busy
# guest. One that has failed is started again: something may have answered it too late while the guest booted.
is_starting() {
    [ "$1" != systemctl ] || return 1
    if systemctl is-failed --quiet "user@$uid.service" "user-runtime-dir@$uid.service"; then
        systemctl reset-failed "user@$uid.service" "user-runtime-dir@$uid.service"
        systemctl start --no-block "user@$uid.service"
    fi
    [ "$(systemctl is-active "user@$uid.service")" = activating ] && echo podman-starting
}

# OWNER and the words that run systemctl for one of the two Podmans. A socket that systemd has given up is started again,
# because the reason may be gone meanwhile; one that somebody has stopped stays as it is.
examine_podman() {
    owner=$1
    shift
    if [ "$depth" = quiet ]; then
        "$@" stop podman.service
        "$@" try-restart podman.socket
        "$@" start --no-block podman.service
        return
    fi
    state=$("$@" is-active podman.socket)
    case $state in
    active | activating) ;;
    failed)
        echo podman-failed socket
        "$@" reset-failed podman.socket podman.service
        "$@" start podman.socket
        [ "$depth" != try ] || "$@" start --no-block podman.service
        ;;
    *) is_starting "$@" || echo "podman-closed $owner $("$@" show --property=LoadState --value podman.socket)" ;;
    esac
    if [ "$state" != failed ] && "$@" is-failed --quiet podman.service; then
        echo podman-failed service
        [ "$depth" != try ] || "$@" start --no-block podman.service
    fi
    "$@" list-units --failed --plain --no-legend --no-pager | sed 's/^/failed /'
}

if [ "$depth" = brief ]; then
    { systemctl is-failed --quiet podman.service || as_user systemctl --user is-failed --quiet podman.service; } &&
        echo podman-failed service
elif command -v systemctl >/dev/null; then
    dmesg | grep 'Out of memory: Kill' | tail -n 1
    examine_podman root systemctl
    examine_podman "$user" as_user systemctl --user
    journalctl --boot --quiet --no-pager --output=short-unix --lines=100 \
        UNIT=podman.service + _SYSTEMD_UNIT=podman.service + \
        USER_UNIT=podman.service + _SYSTEMD_USER_UNIT=podman.service | sed 's/^/journal /'
fi 2>/dev/null
echo done
