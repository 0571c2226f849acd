"""Benchmark of host folders in a guest, by each transport, beside the guest's own disk in the same boot.

The guest image is the recipe's with git and another kernel, since Debian's cloud kernel has no 9p. Caches are dropped
before each read; the figures are medians of all rounds. One machine is started with each transport in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from machine.folders.probe import max_open_files
from machine.guestimage.build import BuildRequest, build_image
from machine.ignition.assets import images_directory
from machine.model.arch import Arch
from machine.ops.image_build import RECIPE
from machine.report import SilentReporter
from scripts.bench import Bench
from scripts.bench_chart import Chart, toml_option, write_chart

NAME = "folders"
TREE_FILES, TAR_FILES, RANDOM_READS = 20_000, 5000, 1000
DRIVERS = ("virtiofs", "9p", "sshfs")
GROUPS = {"write": "write", "read": "read", "random": "4 KiB at random", "status": "git status", "untar": "untar"}
"""What SCRIPT measures, and its name in the chart."""

# Run as root in the guest, with the arguments DIRECTORY MEBIBYTES; prints one JSON object. bash's `time` has
# milliseconds.
SCRIPT = r"""
set -eu
cd "$1"
TIMEFORMAT=%R
cold() { sync; echo 3 >/proc/sys/vm/drop_caches; }
took() {
    local name=$1 seconds; shift
    seconds=$( { time "$@" >/dev/null 2>/var/tmp/said; } 2>&1 ) || { cat /var/tmp/said >&2; exit 1; }
    printf '"%s": %s, ' "$name" "$seconds"
}
sequential_write() { dd if=/dev/zero of=big bs=1M count="$1" conv=fsync; }
sequential_read() { dd if=big of=/dev/null bs=1M; }
random_read() { perl -e '
    my ($count, $size) = @ARGV; srand(7); open(my $f, "<:raw", "big") or die;
    for (1..$count) { sysseek($f, 4096 * int(rand($size / 4096)), 0); sysread($f, my $b, 4096) == 4096 or die; }' \
    "$READS" "$(stat -c %s big)"; }
untar() { tar --no-same-owner -xf /var/tmp/files.tar; }
status() { git -C tree status --porcelain; }
printf '{'
took write sequential_write "$2"
cold; took read sequential_read
cold; took random random_read
cold; took untar untar
rm -rf big files
git config --global --replace-all safe.directory '*'
# Else git reads every file, since inodes and change times differ between transports.
git config --global core.checkStat minimal
git config --global core.trustctime false
cold; took status status
printf '"end": 0}\n'
"""


def make_image(cache: Path) -> Path:
    """Build the benchmark's guest image in `cache`, unless it is there already."""
    with tempfile.TemporaryDirectory(prefix="b2p-") as temporary:
        recipe = Path(temporary) / RECIPE
        shutil.copytree(images_directory() / RECIPE, recipe, symlinks=True)
        file = recipe / "recipe.toml"
        text = file.read_text().replace("linux-image-cloud-amd64", "linux-image-amd64")
        file.write_text(text.replace('"sshfs",', '"sshfs", "git",'))
        request = BuildRequest(
            arch=Arch.X86_64, suite="trixie", recipe=recipe, output=cache / "streams", keys=cache / "keys"
        )
        build_image(request, SilentReporter())
    return cache


def make_tree(folder: Path, files: int) -> None:
    """Create a git repository with a commit of many small files, 100 to a directory."""
    tree = folder / "tree"
    for number in range(files):
        path = tree / f"d{number // 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 20)
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "all")):
        identity = ("-c", "user.name=bench", "-c", "user.email=bench@localhost")
        subprocess.run(["git", "-C", tree, *identity, *words], check=True)


def make_tar(folder: Path) -> Path:
    """Create an archive of many small files."""
    source = folder / "files"
    for number in range(TAR_FILES):
        path = source / f"d{number // 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(2048))
    archive = folder / "files.tar"
    subprocess.run(["tar", "-C", folder, "-cf", archive, "files"], check=True)
    shutil.rmtree(source)
    return archive


def measure(bench: Bench, directory: str, mebibytes: int) -> dict[str, float]:
    command = f"sudo env READS={RANDOM_READS} bash /var/tmp/bench.sh {directory} {mebibytes}"
    result: dict[str, float] = json.loads(bench.machine("ssh", NAME, command))
    return result


def prepare(bench: Bench, shared: Path) -> None:
    """Copy the script and the files to the guest's own disk."""
    script = bench.root / "bench.sh"
    script.write_text(SCRIPT)
    archive = make_tar(bench.root)
    bench.machine("ssh", NAME, "sudo mkdir -p /var/tmp/own && sudo chmod 0777 /var/tmp /var/tmp/own")
    bench.machine("cp", "--quiet", str(script), f"{NAME}:/var/tmp/bench.sh")
    bench.machine("cp", "--quiet", str(archive), f"{NAME}:/var/tmp/files.tar")
    subprocess.run(["tar", "-C", shared, "-cf", bench.root / "tree.tar", "tree"], check=True)
    bench.machine("cp", "--quiet", str(bench.root / "tree.tar"), f"{NAME}:/var/tmp/tree.tar")
    bench.machine("ssh", NAME, "tar -C /var/tmp/own --no-same-owner -xf /var/tmp/tree.tar && rm /var/tmp/tree.tar")


def show(driver: str, folder: list[dict[str, float]], own: list[dict[str, float]], mebibytes: int) -> Iterator[float]:
    """Print how much longer each step takes than on the guest's own disk, and yield that."""
    for name in GROUPS:
        theirs, ours = (median(each[name] for each in rounds) for rounds in (folder, own))
        amount = {"write": mebibytes / theirs, "read": mebibytes / theirs, "random": RANDOM_READS / theirs}.get(name)
        unit = "" if amount is None else f", {amount:.0f} {'reads' if name == 'random' else 'MiB'}/s"
        line = f"{driver:9} {name:8} {theirs / ours:7.2f} x the disk's time   ({theirs:.2f} s / {ours:.2f} s{unit})"
        print(line, flush=True)
        yield theirs / ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of each")
    parser.add_argument("--mebibytes", type=int, default=128, help="size of the large file")
    parser.add_argument("--files", type=int, default=TREE_FILES, help="number of files in the git repository")
    parser.add_argument("--drivers", nargs="+", choices=DRIVERS, default=DRIVERS)
    parser.add_argument("--cache", type=Path, help="directory for the guest image")
    toml_option(parser)
    arguments = parser.parse_args()
    if "virtiofs" in arguments.drivers and max_open_files() < arguments.files * 1.05:
        parser.error(
            f"virtiofsd may open only {max_open_files()} files on this host, fewer than {arguments.files}; use --files"
        )
    root = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "boot2podman-tests" / "folders"
    bench = Bench(root, make_image(arguments.cache or default))
    try:
        shared = root / "shared"
        make_tree(shared, arguments.files)
        size = ("--disk-size", "12", "--memory", "1024", "--cpus", "2")
        volume = ("--volume", f"{shared}:/mnt/shared", "--volume-driver", arguments.drivers[0])
        bench.machine("init", "--image", "boot2podman", *size, *volume, NAME)
        series: dict[str, list[float]] = {}
        for driver in arguments.drivers:
            bench.machine("set", "--volume-driver", driver, NAME)
            bench.machine("start", "--quiet", NAME)
            if driver == arguments.drivers[0]:
                prepare(bench, shared)
            rounds = [
                [measure(bench, directory, arguments.mebibytes) for directory in ("/mnt/shared", "/var/tmp/own")]
                for _ in range(arguments.rounds)
            ]
            folder, own = (list(column) for column in zip(*rounds, strict=True))
            series[driver] = list(show(driver, folder, own, arguments.mebibytes))
            bench.machine("stop", NAME)
        title = "Time relative to the guest's own disk (less is better)"
        chart = Chart(name="folders", title=title, groups=list(GROUPS.values()), series=series)
        write_chart(chart, arguments.toml)
    finally:
        bench.clear()


if __name__ == "__main__":
    main()
