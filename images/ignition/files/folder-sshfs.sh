# Run as root in a guest for one folder of the host: MODE UID WHERE SOURCE. SFTP is on standard input and output; it says
# `mounted` on standard error, and lasts as long as the connection.
set -u
context=
test ! -e /sys/fs/selinux/enforce || context=,context=system_u:object_r:nfs_t:s0
owner=$(getent passwd "$2" | cut -d : -f 3,4)
options=passive,$1,allow_other,default_permissions,uid=${owner%:*},gid=${owner#*:},dcache_timeout=1$context
exec 3<&0
sshfs ":$4" "$3" -f -o "$options" <&3 &
until mountpoint -q -- "$3"; do
    kill -0 $! 2>/dev/null || exit 1
    sleep 0.1
done
echo mounted >&2
wait $!
