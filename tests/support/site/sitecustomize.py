"""Python runs this file at its start where the directory is in PYTHONPATH. The program then imitates a Mac."""

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))
from tests.support.case_folding import FOLDED, fold_case
from tests.support.imitated_mac import become_mac

become_mac()
if FOLDED in os.environ:
    fold_case(os.environ[FOLDED])
