"""The guest architectures, by the names that stream metadata and QEMU use."""

from __future__ import annotations

from enum import StrEnum


class Arch(StrEnum):
    """An architecture by its RPM name, as the keys of stream metadata have it."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    RISCV64 = "riscv64"
    S390X = "s390x"
    PPC64LE = "ppc64le"

    @classmethod
    def parse(cls, name: str) -> Arch:
        """The architecture of any of its usual names (`uname -m`, Go, Debian).

        Raises:
            ValueError: no architecture of ours has that name.
        """
        return cls(_ALIASES.get(name.lower(), name.lower()))

    @property
    def go(self) -> str:
        """Go's name, which OCI registries and Podman use."""
        return {Arch.X86_64: "amd64", Arch.AARCH64: "arm64"}.get(self, self.value)

    @property
    def debian(self) -> str:
        return "ppc64el" if self is Arch.PPC64LE else self.go


_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "ppc64el": "ppc64le"}
