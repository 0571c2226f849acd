# Run as root in a guest for one folder of the host: MODE UID WHERE SOURCE. SFTP is on standard input and output; it says
# `mounted` on standard error when the folder can be used, else why not, and lasts as long as the connection.
set -u
context=
test ! -e /sys/fs/selinux/enforce || context=,context=system_u:object_r:nfs_t:s0
# Newer ones refuse to read links that are absolute or lead upwards, which projects have; they are the guest's to follow.
links=
! sshfs -h 2>&1 | grep -qw no_contain_symlinks || links=,no_contain_symlinks
owner=$(getent passwd "$2" | cut -d : -f 3,4)
options=passive,$1,allow_other,default_permissions,uid=${owner%:*},gid=${owner#*:},dcache_timeout=1$links$context
where=$3
# Another file system is there already, which keeps everybody from writing into the guest's own directory.
below=$(stat -c %d -- "$where")
is_mounted() {
    above=$(stat -c %d -- "$where" 2>/dev/null) && test "$above" != "$below"
}
exec 3<&0
sshfs ":$4" "$where" -f -o "$options" <&3 &
until is_mounted; do
    kill -0 $! 2>/dev/null || exit 1
    sleep 0.1
done
# It may have mounted what the host does not have, or no directory.
if reason=$(ls -d -- "$where/." 2>&1); then
    is_mounted || exit 1
else
    echo "${reason##*: }" >&2
    umount -l -- "$where"
    exit 1
fi
echo mounted >&2
wait $!
