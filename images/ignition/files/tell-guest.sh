#!/bin/sh
# Run as root in a guest, at the first start after its machine was given another name, another preferred socket or a
# larger disk: HOSTNAME, then the whole of tmpfiles.d/podman-docker.conf. A second run changes nothing.
# The last line of its output is the size of the root file system in bytes.
set -eu

hostnamectl set-hostname "$1"
printf '%s\n' "$2" >/etc/tmpfiles.d/podman-docker.conf
systemd-tmpfiles --create /etc/tmpfiles.d/podman-docker.conf

# boot2podman grows its root at every boot, and has no growpart. All others do so at their first one alone; Fedora
# CoreOS keeps it under /sysroot. The marker file is our guests' alone: no other disk must ever be changed.
root=/
if mountpoint -q /sysroot; then
    root=/sysroot
fi
if [ -e /etc/podman-machine ] && command -v growpart >/dev/null; then
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
df --output=size --block-size=1 "$root" | tail -n 1
