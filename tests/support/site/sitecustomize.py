"""Python runs this file at its start where the directory is in PYTHONPATH. The program then imitates a Mac."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))
from tests.support.imitated_mac import become_mac

become_mac()
