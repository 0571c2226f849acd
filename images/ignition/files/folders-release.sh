#!/bin/sh
# Run as root in a guest before its memory is saved: TAG TARGET, once for each of the host's folders. It unmounts all of
# them, or none if something in the guest uses one. As in folders.sh, an empty file system that nobody can write to takes
# the place of each folder, until the host mounts the folder again.
#
# It tells, a line each: `held TARGET BY` for a folder that is in use, and last `done`.
#
# As in folders.sh, the shell itself does what it can, because every suspend waits for it.
set -u

exec 9>/run/boot2podman-folders.lock
flock -w 60 9 || exit 1

links=$(find /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe /proc/[0-9]*/fd -type l -exec ls -ld -- {} + 2>/dev/null)

# By its path, as asking for the file itself would wait for a host that does not answer.
opened() { # DEVICE PLACE
    case "$links
" in
    *" -> $2
"* | *" -> $2/"*) ;;
    *) return ;;
    esac
    printf '%s\n' "$links" | while read -r line; do
        case ${line##* -> } in
        "$2" | "$2"/*)
            pid=${line#*/proc/}
            pid=${pid%%/*}
            if grep -qs " $1 " "/proc/$pid/mountinfo"; then
                echo "$pid"
                return
            fi
            ;;
        esac
    done
}

# The device of a process's root directory, and its place there.
root_of() { # PID
    awk '$5 == "/" { root = $3 " " $4 } END { print root }' "/proc/$1/mountinfo" 2>/dev/null
}

# In a container's own mount namespace, the folder would stay mounted. It also stays mounted in a copy of the guest's own
# tree, such as Podman's rootless network has before Podman 5.5, from which nobody can unmount it; but there only an open
# file would use it.
contained() { # DEVICE
    awk -v device="$1" '$3 == device && !/ (shared|master):/ { split(FILENAME, part, "/"); print part[3] }' \
        /proc/[0-9]*/mountinfo 2>/dev/null | while read -r pid; do
        there=$(readlink "/proc/$pid/ns/mnt") || continue # it has ended
        if test "$there" != "$(readlink /proc/1/ns/mnt)" && test "$(root_of "$pid")" != "$(root_of self)"; then
            echo "$pid"
            return
        fi
    done
}

name_of() { # PID
    container=$(sed -n 's/.*libpod-\([0-9a-f]\{12\}\).*/\1/p' "/proc/$1/cgroup" 2>/dev/null | head -n 1)
    echo "$(cat "/proc/$1/comm" 2>/dev/null), process $1${container:+ of container $container}"
}

# The device and the source of what is mounted at a place, and empty if nothing is.
look_at() { # PLACE
    device='' source=''
    while read -r _ _ number _ where rest; do
        case $where in *\\*) where=$(printf %b "$where") ;; esac
        test "$where" = "$1" || continue
        device=$number source=${rest##* - }
        source=${source#* }
        source=${source%% *}
    done </proc/self/mountinfo
}

# The arguments are taken in turn and put back as TAG PLACE DEVICE, for the folders that are mounted.
count=$(($# / 2))
held=
while test "$count" -gt 0; do
    tag=$1 target=$2
    shift 2
    count=$((count - 1))
    place=$(readlink -f -- "$target") || continue
    look_at "$place"
    test -n "$device" && test "$source" != "$tag-none" || continue
    pid=$(opened "$device" "$place")
    test -n "$pid" || pid=$(contained "$device")
    if test -n "$pid"; then
        echo "held $target $(name_of "$pid")"
        held=1
    fi
    set -- "$@" "$tag" "$place"
done
if test -z "$held"; then
    while test $# -gt 0; do
        if reason=$(umount -- "$2" 2>&1); then
            look_at "$2"
            test -n "$device" || mount -t tmpfs -o ro,nosuid,nodev,noexec,mode=555,size=4k "$1-none" "$2"
        else
            echo "held $2 ${reason##*: }"
        fi
        shift 2
    done
fi
echo done
