"""An image with the shape of Fedora CoreOS, made from the guest image of the tests in half a minute."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from machine.files import sha256_of
from machine.guestimage.build import build_lock
from machine.guestimage.publish import sign
from machine.report import SilentReporter
from tests.support.guests import CACHE

RECIPE = Path(__file__).parents[1] / "guest" / "fedora-shape"
# By this name it is taken for Fedora CoreOS.
RELEASE = "44.20260707.3.1"
NAME = f"fedora-coreos-{RELEASE}-qemu.x86_64.qcow2"
_STEP_S = 300


def fedora_shaped_image(streams: Path) -> Path:
    """Return the image, which is made unless the cache has one of the same guest image and recipe. Only root can."""
    stream = json.loads((streams / "boot2podman.json").read_text())
    release = stream["architectures"]["x86_64"]["artifacts"]["qemu"]["release"]
    base = CACHE / "fedora-shape"
    folder = base / hashlib.sha256(f"{release} {_recipe_digest()}".encode()).hexdigest()[:16]
    base.mkdir(parents=True, exist_ok=True)
    with build_lock(base, SilentReporter()):
        if not folder.exists():
            for outdated in filter(Path.is_dir, base.iterdir()):
                shutil.rmtree(outdated)
            (packed,) = (streams / "builds" / release / "x86_64").glob("*.qcow2.xz")
            with tempfile.TemporaryDirectory(prefix=".new-", dir=base) as work:
                _make(packed, Path(work))
                made = Path(work) / "made"
                made.mkdir()
                (Path(work) / NAME).rename(made / NAME)
                made.rename(folder)
    return folder / NAME


def fedora_shaped_stream(streams: Path) -> Path:
    """Return a folder that offers the image as Fedora's server offers Fedora CoreOS, signed with the tests' key."""
    image = fedora_shaped_image(streams)
    folder = image.with_name("stream")
    with build_lock(CACHE / "fedora-shape", SilentReporter()):
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix=".new-", dir=image.parent) as work:
                made = Path(work) / "made"
                made.mkdir()
                packed = made / f"{NAME}.xz"
                with packed.open("wb") as output:
                    pack = ["xz", "-0", "--threads=0", "--stdout", str(image)]
                    subprocess.run(pack, stdout=output, check=True, timeout=_STEP_S)
                sign([packed], streams.parent / "keys")
                stream = json.loads((streams / "boot2podman.json").read_text())
                stream["architectures"] = {"x86_64": {"artifacts": {"qemu": _artifact(packed, image)}}}
                (made / "stable.json").write_text(json.dumps(stream))
                made.rename(folder)
    return folder


def _artifact(packed: Path, image: Path) -> dict[str, object]:
    disk = {
        "location": packed.name,
        "signature": f"{packed.name}.sig",
        "sha256": sha256_of(packed),
        "uncompressed-sha256": sha256_of(image),
    }
    return {"release": RELEASE, "formats": {"qcow2.xz": {"disk": disk}}}


def _recipe_digest() -> str:
    files = sorted(path for path in RECIPE.rglob("*") if path.is_file())
    described = [f"{path.relative_to(RECIPE)} {path.stat().st_mode:o} {path.read_text()}" for path in files]
    return hashlib.sha256("".join([_SCRIPT, *described]).encode()).hexdigest()


def _make(packed: Path, work: Path) -> None:
    run = ["sh", "-euc", _SCRIPT, "sh", str(packed), str(RECIPE / "shape"), NAME]
    subprocess.run(["unshare", "--mount", *run], cwd=work, check=True, timeout=_STEP_S)


# The mount is in a namespace of its own, and goes with it.
_SCRIPT = """
xz --decompress --stdout "$1" >base.qcow2
qemu-img convert -f qcow2 -O raw base.qcow2 disk
start=$(sfdisk --dump disk | sed -n 's/.*start= *\\([0-9]*\\),.*name="root"$/\\1/p')
mkdir root
mount -o "loop,offset=$((start * 512))" disk root
"$2" root
umount root
qemu-img convert -f raw -O qcow2 disk "$3"
"""
