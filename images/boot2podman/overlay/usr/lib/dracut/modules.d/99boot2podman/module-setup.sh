#!/bin/bash
# What dracut-systemd would have done for a systemd initramfs, and what Ignition lacks on Debian.

check() {
    return 255
}

depends() {
    echo systemd-initrd systemd-journald ignition
}

install() {
    # The root partition is mounted by systemd's own generators from root=LABEL=root.
    ln_r "$systemdsystemunitdir/initrd.target" "$systemdsystemunitdir/default.target"
    inst_multiple fsck fsck.ext4 e2fsck

    # Which does most first boots without systemd.
    inst_multiple busybox
    rm -f "$initdir/init"
    inst_simple /usr/share/boot2podman/init /init
    chmod 0755 "$initdir/init"

    # Coldplug only what the root disk and the ports need, and load their drivers directly: going through all three
    # hundred devices of a machine is most of the initramfs's time. The real root coldplugs everything.
    inst_simple "$moddir/modules-load.conf" /usr/lib/modules-load.d/boot2podman.conf
    inst_simple "$moddir/coldplug.conf" "$systemdsystemunitdir/systemd-udev-trigger.service.d/50-boot2podman.conf"
    # Services of the initramfs have filters of system calls too, and more units than a root disk needs.
    inst_script /usr/lib/systemd/system-generators/boot2podman-emulated \
        /usr/lib/systemd/system-generators/boot2podman-emulated
    local unit
    for unit in kmod-static-nodes.service systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service \
        systemd-tmpfiles-setup.service systemd-vconsole-setup.service systemd-udev-load-credentials.service \
        systemd-network-generator.service systemd-sysctl.service systemd-battery-check.service \
        systemd-hibernate-resume.service systemd-pcrphase-initrd.service; do
        ln -sfn /dev/null "$initdir/etc/systemd/system/$unit"
    done
    # systemd loads libbpf when it finds it, and with it the types of the whole kernel.
    rm -f "$initdir"/usr/lib/*/libbpf.so* "$initdir$systemdutildir/system-generators/systemd-gpt-auto-generator"

    # Debian's Ignition relabels files for SELinux, which Debian does not have.
    inst_simple /bin/true /usr/sbin/setfiles

    # The user of Fedora CoreOS; a user's config is merged over it.
    inst_simple "$moddir/00-core.ign" /usr/lib/ignition/base.d/00-core.ign

    # Emergency mode reports and stays; there is no shell, since nobody could log in to it.
    inst_multiple cat grep tail journalctl systemctl modprobe
    inst_script /usr/libexec/boot2podman/report-failure /usr/libexec/boot2podman/report-failure
    inst_simple "$moddir/emergency.service" "$systemdsystemunitdir/emergency.service"
    inst_simple "$systemdsystemunitdir/emergency.target"

    # The network comes up only when Ignition asks for it: configs that embed everything do not.
    inst_simple "$moddir/boot2podman-network.service" "$systemdsystemunitdir/boot2podman-network.service"
    $SYSTEMCTL -q --root "$initdir" add-wants ignition-complete.target boot2podman-network.service
    $SYSTEMCTL -q --root "$initdir" disable systemd-networkd.service systemd-networkd.socket \
        systemd-network-generator.service systemd-networkd-wait-online.service
}
