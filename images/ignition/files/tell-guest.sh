#!/bin/sh
# Run as root in a guest, at the first start after its machine was given another name, another preferred socket or a
# larger disk: HOSTNAME, then the whole of tmpfiles.d/podman-docker.conf. A second run changes nothing.
# The last line of its output is the size of the root file system in bytes.
set -eu

hostnamectl set-hostname "$1"
printf '%s\n' "$2" >/etc/tmpfiles.d/podman-docker.conf
systemd-tmpfiles --create /etc/tmpfiles.d/podman-docker.conf

# boot2podman grows its root at every boot. Fedora CoreOS does so at its first one alone, and keeps it under /sysroot.
root=/
if mountpoint -q /sysroot; then
    root=/sysroot
    partition=$(findmnt --noheadings --nofsroot --output SOURCE "$root" | tail -n 1)
    number=$(cat "/sys/class/block/${partition##*/}/partition")
    # It ends with 1 where there is nothing to grow into.
    growpart "/dev/$(lsblk --noheadings --output PKNAME "$partition")" "$number" >&2 || [ $? -eq 1 ]
    unshare --mount sh -c "mount -o remount,rw $root && xfs_growfs $root" >&2
fi
df --output=size --block-size=1 "$root" | tail -n 1
