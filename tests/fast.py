"""Run the tests that need no cluster, shared out among the CPUs: ``python -m tests.fast [pytest options]``.

Each share is a pytest process of its own with every nth file, see ``--share`` in `tests.conftest`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

FOLDERS: Final = ("tests/unit", "tests/property", "tests/contract")
MAX_SHARES: Final = 4
NOTHING_SELECTED: Final = 5
"""Pytest's exit code when no test was selected, which one share of a few tests may well see."""


def main() -> int:
    """Run all shares; print each one's output when it is done; return the first exit code that is not good."""
    n = max(1, min(MAX_SHARES, os.cpu_count() or 1))
    codes = []
    with tempfile.TemporaryDirectory(prefix="scorecat-tests-") as folder:
        running = []
        for i in range(1, n + 1):
            command = [sys.executable, "-m", "pytest", *FOLDERS, f"--share={i}/{n}", *sys.argv[1:]]
            path = Path(folder) / f"{i}.txt"
            with path.open("wb") as output:
                running.append((subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT), path))
        for process, path in running:
            codes.append(process.wait())
            sys.stdout.write(path.read_text("utf-8", "replace"))
            sys.stdout.flush()
    wrong = [code for code in codes if code not in {0, NOTHING_SELECTED}]
    return wrong[0] if wrong else min(codes)


if __name__ == "__main__":
    sys.exit(main())
