#!/bin/sh
# Run as root on a host that is reached over SSH: SOCKET OWNER. As long as standard input is open, root's Podman listens
# on SOCKET, which is OWNER's.
set -u
rm -f -- "$1"
podman system service --time=0 "unix://$1" </dev/null >/dev/null 2>&1 &
service=$!
trap 'kill "$service" 2>/dev/null; rm -f -- "$1"' EXIT
trap 'exit 1' HUP INT TERM
until test -S "$1"; do
    kill -0 "$service" || exit 1
    sleep 0.1
done
chown -h -- "$2" "$1"
cat >/dev/null
