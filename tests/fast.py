"""Run the tests that need no cluster, shared out among the CPUs: ``python -m tests.fast [pytest options]``.

Each share is a pytest process of its own with every nth file, see ``--share`` in `tests.conftest`.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from tests.side_by_side import run_side_by_side

FOLDERS: Final = ("tests/unit", "tests/property", "tests/contract")
MAX_SHARES: Final = 4


def main() -> int:
    """Run all shares; return the first exit code that is not good."""
    n = max(1, min(MAX_SHARES, os.cpu_count() or 1))
    return run_side_by_side([[*FOLDERS, f"--share={i}/{n}", *sys.argv[1:]] for i in range(1, n + 1)])


if __name__ == "__main__":
    sys.exit(main())
