"""Runs of pytest side by side, each printed when it is done."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

NOTHING_SELECTED: Final = 5
"""Pytest's exit code when no test was selected, which one run of a few tests may well see."""


def run_side_by_side(runs: Sequence[Sequence[str]]) -> int:
    """Run pytest with each list of arguments; return the first exit code that is not good."""
    codes = []
    with tempfile.TemporaryDirectory(prefix="scorecat-tests-") as folder:
        running = []
        for number, arguments in enumerate(runs):
            path = Path(folder) / f"{number}.txt"
            with path.open("wb") as output:
                command = [sys.executable, "-m", "pytest", *arguments]
                running.append((subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT), path))
        for process, path in running:
            codes.append(process.wait())
            sys.stdout.write(path.read_text("utf-8", "replace"))
            sys.stdout.flush()
    wrong = [code for code in codes if code not in {0, NOTHING_SELECTED}]
    return wrong[0] if wrong else min(codes)
