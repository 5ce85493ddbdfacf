"""Run the tests that need services: ``python -m tests.services [pytest options]``.

Those that share one cluster and those that start services of their own run side by side: they wait more than they
compute.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.side_by_side import run_side_by_side

GROUPS: Final = (("tests/cluster",), ("tests/e2e", "tests/chaos"))


if __name__ == "__main__":
    sys.exit(run_side_by_side([[*folders, *sys.argv[1:]] for folders in GROUPS]))
