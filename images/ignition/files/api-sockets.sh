#!/bin/sh
# Run as root in a guest: by the host whenever it has reached the guest, and by systemd at the guest's own boots, before
# containers start. Gives the machine's API sockets the paths in the guest that they have on the host, as clients mount
# the socket that they talk to into a container. A second run changes nothing.
#
# The host runs it with its text in the variable `program`, from which it is kept for later boots.
set -u
umask 022

directory=@DIRECTORY@
user_link=@USER_LINK@
user_socket=@USER_SOCKET@
root_link=@ROOT_LINK@
root_socket=@ROOT_SOCKET@
uid=@UID@

source=boot2podman-sockets
kept=/usr/local/bin/boot2podman-api-sockets
unit=boot2podman-api-sockets.service
units=/etc/systemd/system

fail() {
    echo "$1" >&2
    exit 1
}

# FUSE, which virtiofs and sshfs are, or 9p; by their numbers for statfs(2).
is_of_host() {
    case $(stat -f -c %t "$1") in
    65735546 | 1021997) return 0 ;;
    *) return 1 ;;
    esac
}

# The host has sockets under these names, and no links. (This is quick where each program takes long to begin.)
is_placed() { # DIRECTORY
    test -h "$1/${user_link##*/}" && test -h "$1/${root_link##*/}"
}

# With its parents, each owned as the one above it: the path may be in the home of the guest's user.
make_directory() {
    test ! -d "$1/" || return 0
    make_directory "${1%/*}"
    ! is_of_host "${1%/*}/" || fail "the host's folder at ${1%/*} has no ${1##*/}"
    mkdir "$1" && chown "$(stat -c %u:%g "${1%/*}/")" "$1" || exit 1
}

# A file system of its own: it covers what a folder of the host has there, which are the host's sockets and lead nowhere
# in the guest, and nothing tidies it up, as /tmp is. Without systemd, a mount does not reach the containers of a service
# that runs already.
place() {
    make_directory "$directory"
    if is_of_host "$directory"; then
        mount -t tmpfs -o mode=755,size=64k "$source" "$directory" || exit 1
    elif command -v systemctl >/dev/null; then
        test -z "$(ls -A "$directory")" || fail "the guest has files of its own in $directory"
        mount -t tmpfs -o mode=755,size=64k "$source" "$directory" || exit 1
    fi
    ln -sfn "$user_socket" "$user_link" && ln -sfn "$root_socket" "$root_link" || exit 1
}

# Those of an earlier name, or runtime directory of the host's.
remove_others() {
    grep "^$source " /proc/mounts | while read -r _ where _; do
        where=$(printf %b "$where")
        if test "$where" != "$directory" && is_placed "$where" && umount -l "$where"; then
            is_of_host "$where" || rmdir "$where"
        fi
    done
}

keep() {
    ! printf '%s\n' "$program" | cmp -s - "$kept" || return 0
    mkdir -p "${kept%/*}" "$units/multi-user.target.wants"
    cat >"$units/$unit" <<END
[Unit]
Description=The paths that the API sockets have on the host
Wants=user-runtime-dir@$uid.service
After=local-fs.target user-runtime-dir@$uid.service
Before=user@$uid.service podman-restart.service boot2podman-containers.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$kept
END
    ln -sf "$units/$unit" "$units/multi-user.target.wants/$unit"
    printf '%s\n' "$program" >"$kept.new" && chmod 0755 "$kept.new" && mv -f "$kept.new" "$kept"
}

if command -v systemctl >/dev/null; then
    # The one that the boot runs may be at work.
    exec 9>/run/boot2podman-api-sockets.lock
    flock --timeout 60 9 || exit 1
fi
if test -n "${program-}"; then
    remove_others
    ! command -v systemctl >/dev/null || keep
fi
is_placed "$directory" || place
