#!/bin/sh
# Run as root in a guest, by the host whenever it has reached the guest. Sends the guest's and its containers' questions
# about names, which go to the address DNS, to a port of the host. Without a port, they go to DNS again.
#   sh -s DNS HOST [PORT]
set -eu

dns=$1 host=$2 port=${3-}
table=boot2podman_names

if ! command -v nft >/dev/null; then
    test -n "$port" || exit 0
    echo "the guest has no nft" >&2
    exit 1
fi

remove() {
    for family in ip ip6; do
        # A table that exists is made in vain, and one that does not can be deleted then.
        printf 'table %s %s\ndelete table %s %s\n' "$family" "$table" "$family" "$table"
    done
}

rules() { # HOOK
    cat <<END
    chain $1 {
        type nat hook $1 priority -110
        ip daddr $dns udp dport 53 dnat to $host:$port
        ip daddr $dns tcp dport 53 dnat to $host:$port
    }
END
}

# In one transaction, so that a question meets either the old rules or the new.
{
    remove
    if test -n "$port"; then
        printf 'table ip %s {\n' "$table"
        rules output
        rules prerouting
        # QEMU's own server on IPv6, which a guest may have been told as well.
        printf '}\ntable ip6 %s {\n    chain output {\n' "$table"
        printf '        type filter hook output priority 0\n        ip6 daddr fec0::3 udp dport 53 reject\n    }\n}\n'
    fi
} | nft -f -
