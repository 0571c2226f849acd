#!/bin/sh
# Run as root in a guest whenever the host has reached it: what the host's folders are. TRANSPORT TAG MODE TARGET, once
# for each; TRANSPORT is virtiofs, 9p, sshfs, `connected` for one that sshfs has mounted, or `ended` for one whose server
# on the host has ended; MODE rw or ro. Those that are devices get units, which mount them at the guest's own boots too;
# for sshfs the place is made ready. A second run changes nothing.
#
# Where a folder belongs and is not mounted, an empty file system is, into which nobody can write: what a container wrote
# into the guest's own directory would be lost to the host. At the guest's own boots, it is there until sshfs is.
#
# It tells, a line each: `can TRANSPORT` of what this guest can mount; then, by their numbers from 0 on, `mounted N`,
# `ready N PATH`, `failed N REASON` or, where the root directory is read-only as composefs makes it, `sealed N`; and last
# `done`.
#
# Every start and every resume waits for it, and in an emulated guest a program takes a tenth of a second to begin. So the
# shell itself does here what it can.
set -u

units=/etc/systemd/system
wants=$units/local-fs.target.wants
mark='# A folder of the host, by boot2podman'

can() {
    case $1 in
    virtiofs) is_known virtiofs || { modprobe -q virtiofs; is_known virtiofs; } ;;
    9p) is_known 9p && test -d /sys/module/9pnet_virtio || { modprobe -qa 9pnet_virtio 9p; is_known 9p; } ;;
    sshfs) is_known fuse || modprobe -q fuse; command -v sshfs >/dev/null && test -c /dev/fuse ;;
    esac
}

is_known() { # FILE SYSTEM
    while read -r nodev name; do
        test "${name:-$nodev}" != "$1" || return 0
    done </proc/filesystems
    return 1
}

# SELinux asks what a file is labelled, which the host's are not: any container may have these.
context=
test ! -e /sys/fs/selinux/enforce || context=,context=system_u:object_r:nfs_t:s0

options_of() { # TRANSPORT MODE
    printf '%s%s' "$2" "$context"
    test "$1" != 9p || printf ,trans=virtio,version=9p2000.L,msize=524288,cache=mmap
}

guard_options=ro,nosuid,nodev,noexec,mode=555,size=4k

guard() { # TAG WHERE
    is_guarded "$1" "$2" || mount -t tmpfs -o "$guard_options" "$1-none" "$2"
}

is_guarded() { # TAG WHERE
    seen=
    while read -r source where type _; do
        case "$source $type" in
        "$1-none tmpfs" | *" fuse.sshfs") test "$(printf %b "$where")" != "$2" || seen=$source ;;
        esac
    done </proc/mounts
    test "$seen" = "$1-none"
}

is_mounted() { # TRANSPORT TAG WHERE
    while read -r source where type _; do
        case "$source $type" in
        "$2 $1") test "$(printf %b "$where")" != "$3" || return 0 ;;
        esac
    done </proc/mounts
    return 1
}

# Whoever looks at a folder that has ended hangs for ever, even one who unmounts it, once nobody uses it any more: it is
# taken away before anything else, and without waiting for umount's end. Nothing here may look at its path before that.
take_away() { # FLAGS OF UMOUNT, and what this script was told
    flags=$1
    shift
    while test $# -ge 4; do
        test "$1" != ended || detach "$2"
        shift 4
    done
}

detach() { # TAG
    while read -r source where type _; do
        test "$source $type" = "$1 virtiofs" || continue
        # shellcheck disable=SC2086  # one word each
        umount $flags -- "$(printf %b "$where")" </dev/null >/dev/null 2>&1 &
    done </proc/mounts
    tries=50
    while grep -q "^$1 [^ ]* virtiofs " /proc/mounts && test $((tries -= 1)) -gt 0; do
        sleep 0.1
    done
}

unit_text() { # TRANSPORT TAG MODE WHERE
    case $1 in
    sshfs | connected | ended)
        set -- tmpfs "$2-none" "$3" "$4"
        options=$guard_options
        ;;
    *) options=$(options_of "$1" "$3") ;;
    esac
    plain=$4
    case $4 in *%*) plain=$(printf %s "$4" | sed 's/%/%%/g') ;; esac
    printf '%s\n[Unit]\nDescription=Folder of the host\n\n' "$mark"
    printf '[Mount]\nWhat=%s\nWhere=%s\nType=%s\nOptions=%s\nTimeoutSec=60\n' "$2" "$plain" "$1" "$options"
}

# The unit of a path has to have this name.
name_unit() { # WHERE
    case $1 in
    / | *[!A-Za-z0-9_/]*)
        unit=$(systemd-escape --path --suffix=mount -- "$1")
        ;;
    *)
        unit='' rest=${1#/}
        while test "${rest%%/*}" != "$rest"; do
            unit=$unit${rest%%/*}-
            rest=${rest#*/}
        done
        unit=$unit$rest.mount
        ;;
    esac
    # Systemd shortens a name that would be too long by a hash.
    test ${#unit} -le 255 || unit=$(systemctl show --property=Id --value -- "$1")
}

is_ours() { # UNIT FILE
    { IFS= read -r first <"$1"; } 2>/dev/null && test "$first" = "$mark"
}

is_same() { # FILE FILE
    { text_of "$1" && first=$text && text_of "$2"; } 2>/dev/null && test "$text" = "$first"
}

text_of() { # FILE
    text=
    while IFS= read -r line; do
        text="$text$line
"
    done <"$1"
}

# The root directory of an ostree guest without composefs is immutable.
make_place() { # WHERE
    test ! -d "$1" || return 0
    reason=$(mkdir -p -- "$1" 2>&1) && return
    case $(lsattr -d / 2>/dev/null) in
    *i*' /') ;;
    *) return 1 ;;
    esac
    chattr -i / || return
    reason=$(mkdir -p -- "$1" 2>&1)
    made=$?
    chattr +i /
    return "$made"
}

is_sealed() { # WHERE
    top=${1#/}
    test -e /run/ostree-booted && ! test -e "/${top%%/*}" && ! test -w /
}

for transport in virtiofs 9p sshfs; do
    can "$transport" && echo "can $transport"
done

# A host of its own may lack sshfs: by what it can be installed.
for installer in apt-get dnf zypper apk; do
    test -z "${no_units-}" || can sshfs || ! command -v "$installer" >/dev/null || { echo "installer $installer" && break; }
done

# Without systemd, as in Alpine, nothing mounts at the guest's own boots: the host tells it again after each. Such a
# guest has BusyBox's tools. With $no_units, a host of its own gets no units of ours either.
without_systemd() {
    take_away -l "$@"
    while read -r source where _; do
        case "$source $*" in
        folder-*" ${source%-none} "*) ;;
        folder-*)
            # An sshfs that has just lost its connection may still be above it.
            while grep -q "^$source " /proc/mounts && umount -l -- "$(printf %b "$where")"; do
                :
            done
            ;;
        esac
    done </proc/mounts
    number=0
    while test $# -ge 4; do
        if ! reason=$(mkdir -p -- "$4" 2>&1); then
            echo "failed $number $(printf %s "$reason" | tail -n 1)"
        elif test "$1" = connected; then
            :
        elif test "$1" = ended; then
            guard "$2" "$4"
        elif test "$1" = sshfs; then
            while read -r _ where type _; do
                test "$type" != fuse.sshfs || test "$(printf %b "$where")" != "$4" || umount -l -- "$4"
            done </proc/mounts
            guard "$2" "$4"
            echo "ready $number $4"
        elif is_guarded "$2" "$4" && ! reason=$(umount -l -- "$4" 2>&1); then
            echo "failed $number $(printf %s "$reason" | tail -n 1)"
        elif mountpoint -q -- "$4" || reason=$(mount -t "$1" -o "$(options_of "$1" "$3")" "$2" "$4" 2>&1); then
            echo "mounted $number"
        else
            guard "$2" "$4"
            echo "failed $number $(printf %s "$reason" | tail -n 1)"
        fi
        number=$((number + 1))
        shift 4
    done
    echo done
}

test -z "${no_units-}" && command -v systemctl >/dev/null || {
    without_systemd "$@"
    exit
}

take_away '--lazy --no-canonicalize' "$@"

# One at a time: the connection of one that is still at work may have been lost.
exec 9>/run/boot2podman-folders.lock
flock --timeout 60 9 || exit 1

# What is to be there.
wanted=$(mktemp -d)
trap 'rm -rf "$wanted"' EXIT
test -d "$wants" || mkdir -p "$wants"
number=0
changed=
has_containers=
: >"$wanted/list"
for word in "$@"; do
    case $((number % 4)) in
    0) transport=$word ;;
    1) tag=$word ;;
    2) mode=$word ;;
    3)
        where=$(realpath --canonicalize-missing -- "$word")
        name_unit "$where"
        test "$where" != /etc/containers || has_containers=1
        printf '%s\n%s\n%s\n%s\n%s\n' "$transport" "$tag" "$mode" "$unit" "$where" >>"$wanted/list"
        unit_text "$transport" "$tag" "$mode" "$where" >"$wanted/$unit"
        ;;
    esac
    number=$((number + 1))
done

# A folder at /etc/containers hides the image's own rules for signatures, which Fedora CoreOS needs for its upgrades. So
# rpm-ostree gets the image's directory. Systemd would also lay the policy.json of Fedora CoreOS over the folder's, and for
# that make an empty one in a folder that has none, with which no Podman works, the host's included.
rules=$units/rpm-ostreed.service.d/boot2podman.conf
if test -n "$has_containers" && test -e /usr/etc/containers/policy.json; then
    test -e "$rules" || {
        mkdir -p -- "${rules%/*}"
        printf '%s\n[Service]\nBindReadOnlyPaths=/usr/etc/containers:/etc/containers\n' "$mark" >"$rules"
        changed=1
    }
elif test -e "$rules"; then
    rm -f -- "$rules"
    changed=1
fi

# What is no longer, or differs.
for unit in "$units"/*.mount; do
    name=${unit##*/}
    is_ours "$unit" || continue
    is_same "$unit" "$wanted/$name" && continue
    systemctl stop -- "$name" 2>/dev/null || umount --lazy -- "$(systemctl show --property=Where --value -- "$name")"
    rm -f -- "$unit" "$wants/$name"
    changed=1
done
for unit in "$wanted"/*.mount; do
    name=${unit##*/}
    test -e "$unit" && ! test -e "$units/$name" || continue
    cp -- "$unit" "$units/$name"
    ln -sf -- "$units/$name" "$wants/$name"
    changed=1
done
test -z "$changed" || systemctl daemon-reload

number=0
while read -r transport && read -r tag && read -r mode && read -r unit && IFS= read -r place; do
    if make_place "$place"; then
        if test "$transport" = connected; then
            :
        elif test "$transport" = ended; then
            systemctl start -- "$unit" || guard "$tag" "$place"
        elif test "$transport" = sshfs; then
            while mountpoint -q -- "$place" && test "$(findmnt -n -o FSTYPE -- "$place" | tail -n 1)" = fuse.sshfs; do
                umount --lazy -- "$place" || break
            done
            mountpoint -q -- "$place" || systemctl restart -- "$unit"
            echo "ready $number $place"
        elif is_guarded "$tag" "$place" && ! reason=$(umount -- "$place" 2>&1); then
            echo "failed $number $(printf %s "$reason" | tail -n 1)"
        elif is_mounted "$transport" "$tag" "$place" ||
            # Systemd sees it. A start by systemd takes ten times as long, but notes why a folder cannot be mounted.
            # Without the lock, which one that hangs would keep.
            mount -t "$transport" -o "$(options_of "$transport" "$mode")" "$tag" "$place" 9>&- 2>/dev/null ||
            systemctl start -- "$unit" 2>/dev/null; then
            echo "mounted $number"
        else
            guard "$tag" "$place"
            reason=$(journalctl --quiet --output=cat --unit="$unit" --lines=20 2>/dev/null | grep '^mount' | tail -n 1)
            echo "failed $number ${reason:-$unit does not start}"
        fi
    elif is_sealed "$place"; then
        echo "sealed $number"
    else
        echo "failed $number $(printf %s "$reason" | tail -n 1)"
    fi
    number=$((number + 1))
done <"$wanted/list"
echo done
