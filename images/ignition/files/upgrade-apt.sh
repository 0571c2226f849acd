#!/bin/bash
# Run as root in a guest of Debian's family by `machine upgrade`: every package becomes the newest that its sources have.
# The last line of its output says `restart` where the new kernel, or anything else, waits for one; all that happens
# goes to standard error.
set -euo pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"
# Nobody can be asked anything.
export DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1

options=(
    -o DPkg::Lock::Timeout=300
    -o Dpkg::Use-Pty=0
    # A file that somebody has changed stays as it is, and none is asked about.
    -o Dpkg::Options::=--force-confdef
    -o Dpkg::Options::=--force-confold
)

upgrade() {
    # What an upgrade that was cut short has left.
    dpkg --configure -a --force-confdef --force-confold
    apt-get "${options[@]}" -q --error-on=any update
    apt-get "${options[@]}" -q -y full-upgrade
}

# It ends what it has begun, also when nobody reads along any more: half an upgrade is worse than none. And it reads
# nothing, as the rest of this script is on standard input.
upgrade </dev/null 2>&1 | tee --output-error=warn-nopipe /dev/null >&2

booted=$(awk '$1 == "btime" { print $2 }' /proc/stat)
if [ -e /run/reboot-required ] || [ -n "$(find /boot/ -maxdepth 1 -name 'vmlinu[xz]*' -newerct "@$booted")" ]; then
    echo restart
else
    echo complete
fi
