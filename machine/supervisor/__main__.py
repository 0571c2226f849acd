"""The background process of one machine. `machine start` spawns it as `python -m machine.supervisor NAME`."""

from __future__ import annotations

import sys

from machine.supervisor.openssl import load_without_openssl


def main() -> int:
    load_without_openssl()
    from machine.supervisor.process import main as supervise  # it loads asyncio

    return supervise()


if __name__ == "__main__":
    sys.exit(main())
