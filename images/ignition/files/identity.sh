#!/bin/sh
# Run as root at the first start of a clone, ROOT being the root file system of its guest: from the initramfs, so that
# nothing starts under the identity of the machine that it was made from, and again from the system itself, for what
# the initramfs has not mounted. A second run changes nothing.
# Files are written in place, never replaced: the initramfs knows no labels of SELinux.
set -eu
umask 077

root=${1%/}
machine_id='@MACHINE_ID@'
old_key='@OLD_KEY@'
new_key='@NEW_KEY@'

# put PATH CONTENT
put() {
    [ -d "$root${1%/*}" ] || return 0
    [ "$(cat "$root$1" 2>/dev/null)" = "$2" ] || printf '%s\n' "$2" >"$root$1"
}

stale=
[ "$(cat "$root/etc/machine-id" 2>/dev/null)" = "$machine_id" ] || stale=yes

put /etc/machine-id "$machine_id"
[ ! -f "$root/var/lib/dbus/machine-id" ] || put /var/lib/dbus/machine-id "$machine_id"
put /etc/hostname '@HOSTNAME@'
put /etc/ssh/ssh_host_ed25519_key '@HOST_PRIVATE@'
put /etc/ssh/ssh_host_ed25519_key.pub '@HOST_PUBLIC@'

for file in "$root"/root/.ssh/authorized_keys "$root"/root/.ssh/authorized_keys.d/* \
    "$root"/home/*/.ssh/authorized_keys "$root"/home/*/.ssh/authorized_keys.d/*; do
    [ -f "$file" ] || continue
    text=$(cat "$file")
    case $text in
    *"$old_key"*) printf '%s\n' "$text" | sed "s|$old_key.*|$new_key|" >"$file" ;;
    esac
done

[ -z "$root" ] || exit 0
# Kinds that the guest has made itself: it makes them anew, or does without.
for file in /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub; do
    case $file in
    */ssh_host_ed25519_key | */ssh_host_ed25519_key.pub) ;;
    *) rm -f "$file" ;;
    esac
done
rm -f /var/lib/systemd/random-seed
# The service manager and the journal keep the identity that they have begun with: the initramfs could not change it.
[ -z "$stale" ] || systemctl --no-block reboot
