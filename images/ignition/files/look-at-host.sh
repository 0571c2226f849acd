#!/bin/sh
# Run on a host that is reached over SSH, by the user who logs in: facts about the host, KEY VALUE a line. It changes
# nothing. The last line is `end`.
say() {
    printf '%s %s\n' "$1" "$2"
}

PATH=$PATH:/usr/local/bin:/usr/sbin:/sbin
say system "$(uname -s)"
say arch "$(uname -m)"
say user "$(id -un)"
say uid "$(id -u)"
say cpus "$(getconf _NPROCESSORS_ONLN)"
say memory_kib "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
say disk_kib "$(df -Pk "$HOME" | sed -n '2s/^[^ ]* *\([0-9]*\).*/\1/p')"
for installer in apt-get dnf zypper apk; do
    command -v "$installer" >/dev/null && say installer "$installer" && break
done
test ! -d /run/systemd/system || say systemd yes
# Systemd writes a backslash, as in the names of Active Directory, twice.
test ! -e "/var/lib/systemd/linger/$(id -un | sed 's/\\/&&/g')" || say lingers yes
! sudo -n true 2>/dev/null || say sudo yes
! command -v sshfs >/dev/null || say sshfs yes
if command -v podman >/dev/null; then
    version=$(podman --version)
    say podman "${version##* }"
    socket=$(podman info --format '{{.Host.RemoteSocket.Path}}' 2>/dev/null)
    socket=${socket#unix://}
    test -z "$socket" || say socket "$socket"
    test ! -S "$socket" || say listens yes
fi
echo end
