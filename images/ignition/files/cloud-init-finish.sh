#!/bin/sh
# Run as root by cloud-init at the end of a guest's first boot: USER, then (enable|disable|mask):UNIT of systemd's.
# Users, packages, files and links are there. What follows makes the running system be as every later boot finds it,
# and the last unit tells the host.
set -u

user=$1
shift

# By way of sysfs: not every system makes /dev/virtio-ports.
tell_host() {
    for entry in /sys/class/virtio-ports/*; do
        if [ "$(cat "$entry/name")" = org.boot2podman.ready ]; then
            echo "$*" >"/dev/${entry##*/}"
        fi
    done
}

# The line that tells most: that of the network, else the package manager's last.
reason() {
    log=/var/log/cloud-init-output.log
    grep -iE 'resol|unreachable|timed out|could not connect|unable to connect|refused' "$log" | tail -n 1 | grep . ||
        grep -E '^(E:|Err|ERROR|No match|Unable)' "$log" | tail -n 1
}

if ! command -v podman >/dev/null; then
    tell_host "failed Podman is not in the image and could not be installed: $(reason | cut -c 1-300)"
    exit 1
fi

systemctl daemon-reload
sysctl --quiet --system
systemd-tmpfiles --create
started=
for word in "$@"; do
    unit=${word#*:}
    case $word in
    enable:*)
        systemctl enable "$unit"
        started="$started $unit"
        ;;
    disable:*) ! systemctl cat "$unit" >/dev/null 2>&1 || systemctl disable --now "$unit" ;;
    mask:*) systemctl mask --now "$unit" ;;
    esac
done

# The user's own systemd may run already, and without what has been written for it since.
loginctl enable-linger "$user"
systemctl restart "user@$(id -u "$user").service"

# All of it has happened once and for all: without its seed disk, which the next boot has no more, cloud-init would
# take the machine for another one.
touch /etc/cloud/cloud-init.disabled
sync
# shellcheck disable=SC2086  # names of units have no spaces
systemctl start $started
