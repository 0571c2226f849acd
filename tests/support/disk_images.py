"""Small disk images that no guest boots."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import subprocess
from dataclasses import dataclass
from pathlib import Path

from machine.guestimage.publish import PUBLIC_KEY, sign


@dataclass(frozen=True, kw_only=True)
class Images:
    """Small disk images with the same content, in several formats.

    `signature` is that of `xz`, and `key` is its public key.
    """

    qcow2: Path
    raw: Path
    xz: Path
    gz: Path
    signature: bytes
    key: bytes

    @property
    def hashes(self) -> dict[str, str]:
        return {"sha256": sha256(self.xz), "uncompressed_sha256": sha256(self.qcow2)}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_images(directory: Path) -> Images:
    """Create four images of one disk: 64 MiB with an MBR signature and 2 MB that cannot be compressed."""
    raw = directory / "disk.raw"
    with raw.open("wb") as stream:
        stream.write(bytes(510) + b"\x55\xaa")
        for number in range(65536):
            stream.write(hashlib.sha256(number.to_bytes(4, "big")).digest())
        stream.truncate(64 * 1024**2)
    qcow2 = directory / "disk.qcow2"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, qcow2)
    (directory / "disk.qcow2.xz").write_bytes(lzma.compress(qcow2.read_bytes(), preset=0))
    (directory / "disk.raw.gz").write_bytes(gzip.compress(raw.read_bytes(), compresslevel=1))
    keys = directory / "keys"
    sign([directory / "disk.qcow2.xz"], keys)
    return Images(
        qcow2=qcow2,
        raw=raw,
        xz=directory / "disk.qcow2.xz",
        gz=directory / "disk.raw.gz",
        signature=(directory / "disk.qcow2.xz.sig").read_bytes(),
        key=(keys / PUBLIC_KEY).read_bytes(),
    )


def qemu_img(*words: str | Path) -> str:
    return subprocess.run(["qemu-img", *words], check=True, capture_output=True, text=True).stdout
