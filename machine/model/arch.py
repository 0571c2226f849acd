"""List the guest architectures, by the names that stream metadata and QEMU use."""

from __future__ import annotations

from enum import StrEnum


class Arch(StrEnum):
    """A guest architecture. The value is the architecture's name in RPM and in stream metadata."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"
    RISCV64 = "riscv64"
    S390X = "s390x"
    PPC64LE = "ppc64le"

    @classmethod
    def parse(cls, name: str) -> Arch:
        """Return the architecture that uname, Go or Debian calls `name`.

        Raises:
            ValueError: there is no guest architecture of that name.
        """
        return cls(_ALIASES.get(name.lower(), name.lower()))

    @property
    def go(self) -> str:
        """Go's name for the architecture. OCI registries and Podman use the same name."""
        return {Arch.X86_64: "amd64", Arch.AARCH64: "arm64"}.get(self, self.value)

    @property
    def debian(self) -> str:
        return "ppc64el" if self is Arch.PPC64LE else self.go


_ALIASES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "ppc64el": "ppc64le"}
