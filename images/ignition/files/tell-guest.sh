#!/bin/bash
# Read by root's shell in a guest, after a start at which something has changed on the host's side: what follows these
# functions calls those that it takes (machine/ops/start_update_guest.py). A second run changes nothing. Alpine, which
# has OpenRC, has BusyBox's tools too, and so only their options.
set -euo pipefail
umask 022

set_name() {
    if command -v hostnamectl >/dev/null; then
        hostnamectl set-hostname "$1"
    else
        echo "$1" >/etc/hostname
        hostname "$1"
    fi
}

# The whole of tmpfiles.d/podman-docker.conf.
set_docker_socket() {
    printf '%s\n' "$1" >/etc/tmpfiles.d/podman-docker.conf
    if command -v systemd-tmpfiles >/dev/null; then
        systemd-tmpfiles --create /etc/tmpfiles.d/podman-docker.conf
    else
        ln -sfn "${1##* }" /run/docker.sock
    fi
}

set_timezone() {
    if [ ! -e "/usr/share/zoneinfo/$1" ]; then
        echo "the guest does not know the time zone $1" >&2
        return 1
    fi
    ln -sfn "../usr/share/zoneinfo/$1" /etc/localtime
}

# On standard input: a tar in base64 with the services that start containers, as a guest is given them at its first boot
# today. Alpine starts nothing by itself; it has the program alone.
install_services() {
    local directory
    base64 -d | tar -xzf - -C /
    chmod 0755 /usr/local/bin/boot2podman-containers
    command -v systemctl >/dev/null || return 0
    systemctl daemon-reload
    systemctl --quiet --global enable boot2podman-containers.service
    systemctl --quiet enable boot2podman-containers.service
    systemctl --no-block start boot2podman-containers.service
    # Where it runs, it stops containers at the next stop.
    for directory in /run/user/*; do
        [ -S "$directory/bus" ] || continue
        runuser -u "$(id -nu "${directory##*/}")" -- env XDG_RUNTIME_DIR="$directory" bash -c \
            'systemctl --user daemon-reload; systemctl --user --no-block start boot2podman-containers.service'
    done
}

# The last line of the output is the size of the root file system in bytes.
#
# boot2podman grows its root at every boot, and has no growpart. All others do so at their first one alone; Fedora CoreOS
# keeps it under /sysroot. The marker file is our guests' alone: no other disk must ever be changed.
grow_root() {
    local root=/ partition number
    if mountpoint -q /sysroot; then
        root=/sysroot
    fi
    if [ -e /etc/podman-machine ] && command -v growpart >/dev/null && command -v findmnt >/dev/null; then
        partition=$(findmnt --noheadings --nofsroot --output SOURCE "$root" | tail -n 1)
        number=$(cat "/sys/class/block/${partition##*/}/partition")
        # It ends with 1 where there is nothing to grow into.
        growpart "/dev/$(lsblk --noheadings --output PKNAME "$partition")" "$number" >&2 || [ $? -eq 1 ]
        case "$(findmnt --noheadings --output FSTYPE "$root" | tail -n 1)" in
        ext4) resize2fs "$partition" ;;
        btrfs) btrfs filesystem resize max "$root" ;;
        xfs) unshare --mount sh -c "mount -o remount,rw $root && xfs_growfs $root" ;;
        esac >&2
    fi
    df -P -k "$root" | awk 'END { printf "%.0f\n", $2 * 1024 }'
}

# On standard input: a tar in base64 with every file that the guest is to have of its host's. What may be gone with those
# that it had are the variables that follow, by name.
follow_host() {
    local new variables
    new=$(mktemp -d)
    base64 -d >"$new/files.tar.gz"
    export -f replace_files changed_variables trust_host
    unshare --mount bash -euo pipefail -c 'replace_files "$@"' follow_host "$new" "$@"
    mapfile -d '' -t variables <"$new/variables"
    rm -r "$new"
    refresh_services "${variables[@]}" >&2
}

# In a view of its own: what is mounted below these may be a folder of the host's, and is not ours to change.
#
# What the guest has of an earlier time goes; the paths are noted before they are there, so that none is forgotten.
replace_files() {
    local new=$1 state=/var/lib/boot2podman shells=/etc/profile.d/50-host-proxy.sh directory path trusted before
    shift
    for directory in /etc /usr/local/share /var/lib; do
        [ ! -d "$directory" ] || mount -o bind "$directory" "$directory"
    done
    mkdir -p "$state"
    # In a list of its own making tar would quote what is not ASCII.
    mkdir "$new/files"
    tar -xzf "$new/files.tar.gz" -C "$new/files"
    (cd "$new/files" && find . -type f) | sed 's,^\./,,' | sort >"$new/list"
    touch "$state/followed"
    trusted=$(cksum "$state/host-ca-certs.pem" 2>/dev/null || true)
    before=$(cat "$shells" 2>/dev/null || true)
    sort -u "$new/list" "$state/followed" >"$new/both"
    comm -13 "$new/list" "$new/both" >"$new/gone"
    cp "$new/both" "$state/followed"
    while IFS= read -r path; do rm -f "/$path"; done <"$new/gone"
    tar -xzf "$new/files.tar.gz" -C /
    cp "$new/list" "$state/followed"
    if [ "$trusted" != "$(cksum "$state/host-ca-certs.pem" 2>/dev/null || true)" ]; then
        trust_host "$state/host-ca-certs.pem" >&2
    fi
    if [ "$before" = "$(cat "$shells" 2>/dev/null || true)" ]; then
        set --
    fi
    (changed_variables "$shells" "$before" "$@") >"$new/variables"
}

# Print the assignments for managers that run since before the change, each ended by a null byte. $1 exports the host's
# variables, $2 is what it did before; then the names of all follow. A variable that is gone becomes empty until the next
# boot, because managers keep those that they began with. What the machine or the user sets is left alone.
changed_variables() {
    local shells=$1 before=$2 others name
    shift 2
    others=$(find /etc/systemd/system.conf.d -name '*.conf' ! -name 50-host-proxy.conf -exec cat {} + 2>/dev/null || true)
    unset "$@"
    [ ! -e "$shells" ] || . "$shells"
    for name in "$@"; do
        case "$others" in *[\"\'\ =]"$name="*) continue ;; esac
        if [ -n "${!name+set}" ]; then
            printf '%s\0' "$name=${!name}"
        elif [[ $before == *"export $name="* ]]; then
            printf '%s\0' "$name="
        fi
    done
}

# Make the certificates known that the host trusts, or no longer.
trust_host() {
    local own=/usr/local/share/ca-certificates anchor=/etc/pki/ca-trust/source/anchors/boot2podman-host.pem
    if command -v update-ca-trust >/dev/null; then
        rm -f "$anchor"
        [ ! -e "$1" ] || cp "$1" "$anchor"
        update-ca-trust
        return
    fi
    mkdir -p "$own"
    rm -f "$own"/boot2podman-host-*.crt
    # One file for each that the guest has not from its own distribution.
    if [ -e "$1" ]; then
        find /usr/share/ca-certificates -name '*.crt' -exec cat {} + | awk -v out="$own/boot2podman-host-" '
            /^-----BEGIN CERTIFICATE-----/ { inside = 1; body = ""; next }
            /^-----END CERTIFICATE-----/ {
                inside = 0
                if (!(body in known) && theirs) {
                    name = out (++count) ".crt"
                    printf "-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n", body >name
                    close(name)
                }
                known[body] = 1
                next
            }
            inside { sub(/\r$/, ""); body = body $0 "\n" }
        ' - theirs=1 "$1"
    fi
    update-ca-certificates --fresh
}

# Services take variables and certificates as they begin; Podman's begin with the next request, and containers stay. In an
# emulated guest each program takes up to a second and a daemon-reload five, so the managers are told in one step.
refresh_services() {
    local directory uid
    if ! command -v systemctl >/dev/null; then
        rc-service podman-root restart
        rc-service podman-user restart
        return
    fi
    refresh_manager --system "$@"
    export -f refresh_manager
    for directory in /run/user/*; do
        uid=${directory##*/}
        [ -S "$directory/bus" ] || continue
        runuser -u "$(id -nu "$uid")" -- env XDG_RUNTIME_DIR="$directory" \
            bash -euc 'refresh_manager "$@"' refresh_services --user "$@"
    done
}

refresh_manager() {
    [ $# -eq 1 ] || systemctl "$1" set-environment "${@:2}"
    systemctl "$1" try-restart podman.service
}
