#!/bin/sh
# Run as root by cloud-init at the end of a guest's first boot: USER, then (enable|disable|mask):UNIT of systemd's, of
# which only the enabled ones need be there.
# Users, packages, files and links are there. What follows makes the running system be as every later boot finds it,
# and its last step tells the host.
set -u

user=$1
shift

# Where a line to the host goes. By way of sysfs: not every system makes /dev/virtio-ports.
find_port() {
    for entry in /sys/class/virtio-ports/*; do
        if [ "$(cat "$entry/name")" = org.boot2podman.ready ]; then
            echo "/dev/${entry##*/}"
        fi
    done
}

# The line that tells most: that of the network, else the package manager's last.
find_reason() {
    log=/var/log/cloud-init-output.log
    grep -iE 'resolving|could not resolve|unreachable|timed out|(not|to) connect|refused' "$log" | tail -n 1 | grep . ||
        grep -E '^(E:|Err|ERROR|No match|Unable)' "$log" | tail -n 1
}

# All of it has happened once and for all: without its seed disk, which the next boot has no more, cloud-init would
# take the machine for another one.
end_provisioning() {
    touch /etc/cloud/cloud-init.disabled
    sync
}

# One reload for all of them: it is what takes time.
finish_systemd() {
    started=
    stopped=
    for word in "$@"; do
        unit=${word#*:}
        systemctl --no-reload --quiet "${word%%:*}" "$unit"
        case $word in
        enable:*) started="$started $unit" ;;
        *) stopped="$stopped $unit" ;;
        esac
    done
    systemctl daemon-reload
    # Commands over SSH have the variables that login shells have. Debian's bash reads this file for them, and Fedora's
    # more than that by itself.
    [ ! -e /etc/bash.bashrc ] ||
        sed -i '1i for file in /etc/profile.d/50-host-proxy.sh /etc/profile.d/60-machine.sh; do [ ! -r $file ] || . $file; done' \
            /etc/bash.bashrc
    sysctl --quiet --system
    systemd-tmpfiles --create
    # shellcheck disable=SC2086  # names of units have no spaces
    [ -z "$stopped" ] || systemctl --quiet stop $stopped
    # The user's own systemd may run already, and without what has been written for it since.
    loginctl enable-linger "$user"
    systemctl restart "user@$(id -u "$user").service"
    end_provisioning
    # shellcheck disable=SC2086
    systemctl start $started
}

# A service that answers Podman's API as USER, below the folder RUNTIME, with the variables that systemd's would have.
write_openrc_service() {
    cat >"/etc/init.d/$1" <<EOF
#!/sbin/openrc-run
supervisor=supervise-daemon
command=/usr/bin/podman
command_args="system service --time=0 unix://$3/podman/podman.sock"
command_user="$2:$2"
supervise_daemon_args="--env XDG_RUNTIME_DIR=$3"

for file in /etc/profile.d/50-host-proxy.sh /etc/profile.d/60-machine.sh; do
    [ ! -r "\$file" ] || . "\$file"
done

depend() {
    need cgroups
    after net sshd
}

start_pre() {
    checkpath --directory --mode 0755 /run/user
    checkpath --directory --mode 0700 --owner "$2:$2" "$3" "$3/podman"
}
EOF
    chmod 0755 "/etc/init.d/$1"
}

# Start containers in the background after a boot, and stop all before the power goes.
write_openrc_containers() {
    for verb in start stop; do
        cat >"/etc/local.d/boot2podman-containers.$verb" <<EOF
#!/bin/sh
export XDG_RUNTIME_DIR=$2 STATE_DIRECTORY=/home/$1/.local/state/boot2podman
su "$1" -s /bin/sh -c '/usr/local/bin/boot2podman-containers $verb' &
unset XDG_RUNTIME_DIR STATE_DIRECTORY
/usr/local/bin/boot2podman-containers $verb &
EOF
        chmod 0755 "/etc/local.d/boot2podman-containers.$verb"
    done
    echo wait >>/etc/local.d/boot2podman-containers.stop
}

# Alpine's. It has no sockets that start a service, and no services of a user's.
finish_openrc() {
    # Its sshd lets nobody in whose password is locked in the usual way, and forwards no ports.
    sed -i "s/^\(root\|$user\):!*:/\1:*:/" /etc/shadow
    echo AllowTcpForwarding yes >/etc/ssh/sshd_config.d/10-boot2podman.conf
    rc-service sshd reload
    rc-service sysctl restart
    printf '%s\n' tun fuse >>/etc/modules
    modprobe -a tun fuse
    write_openrc_service podman-root root /run
    write_openrc_service podman-user "$user" "/run/user/$(id -u "$user")"
    write_openrc_containers "$user" "/run/user/$(id -u "$user")"
    cat >/etc/local.d/boot2podman.start <<EOF
#!/bin/sh
ln -sfn "\$(awk '{ print \$NF }' /etc/tmpfiles.d/podman-docker.conf)" /run/docker.sock
echo "ready \$(tr -d - </proc/sys/kernel/random/boot_id)" >$port
EOF
    chmod 0755 /etc/local.d/boot2podman.start
    for service in cgroups podman-root podman-user local; do
        rc-update add "$service" default
    done
    end_provisioning
    for service in cgroups podman-root podman-user; do
        rc-service "$service" start
    done
    /etc/local.d/boot2podman.start
}

port=$(find_port)
if ! command -v podman >/dev/null; then
    echo "failed Podman is not in the image and could not be installed: $(find_reason | cut -c 1-300)" >"$port"
elif command -v systemctl >/dev/null; then
    finish_systemd "$@"
else
    finish_openrc
fi
