#!/bin/sh
# Runs the tests of this directory in the emulated host: as root, on its shared folders, in a Debian of its own. The
# arguments go to pytest. The output and the exit status are left in /mnt/results for the real host.
exec >/mnt/results/output 2>&1 </dev/null
trap 'echo $? >/mnt/results/status.new; mv /mnt/results/status.new /mnt/results/status' EXIT
set -eu

case $(uname -m) in x86_64) modprobe kvm_amd ;; esac
# Each page of a guest's memory costs an exit to the host, which takes long when it is emulated.
echo always >/sys/kernel/mm/transparent_hugepage/shmem_enabled
export PYTHONUNBUFFERED=1 LANG=C.UTF-8 HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin

# The file system is shared read-only; what is written goes to the emulated host's disk.
own=/var/lib/kvm-host
root=$own/root
if ! mountpoint -q "$root"; then
    mkdir -p "$own/lower" "$own/upper" "$own/work" "$root"
    mount -o ro,loop /mnt/root/*.ext4 "$own/lower"
    mount -t overlay -o "lowerdir=$own/lower,upperdir=$own/upper,workdir=$own/work" overlay "$root"
    mkdir -p "$root/streams" "$root/images" "$root/old"
    for directory in dev proc sys; do mount --rbind "/$directory" "$root/$directory"; done
    mount -t tmpfs run "$root/run"
    mkdir -p "$own/srv"
    mount --bind "$own/srv" "$root/srv"
    for directory in streams images; do mount --bind "/mnt/$directory" "$root/$directory"; done
    cat /etc/resolv.conf >"$root/etc/resolv.conf"
fi
# Python keeps its compiled modules beside the sources.
find "$root/checkout" -mindepth 1 -maxdepth 1 -exec rm -r {} +
tar -C /mnt/checkout --exclude=__pycache__ --exclude=golden -cf - images machine pyproject.toml scripts tests |
    tar -C "$root/checkout" -xf -

# As virtiofsd does, programs may make another directory the root; chroot alone would prevent that.
# shellcheck disable=SC2016
unshare --mount sh -c '
    cd "$1" && shift
    pivot_root . old
    umount --lazy /old
    cd /checkout
    python3 -m pytest -p no:cacheprovider --durations=0 tests/kvm "$@"
' sh "$root" "$@"
