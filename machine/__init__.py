"""Container hosts as virtual machines: Fedora CoreOS or boot2podman under QEMU, with Podman inside."""

__version__ = "0.2.0"

DOCUMENTATION = "https://boot2podman.github.io/"
"""The site that is built from `docs/`."""
