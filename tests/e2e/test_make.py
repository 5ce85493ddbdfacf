"""``make``: its list of commands, and an environment that could not be made."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A folder with the project's Makefile and a requirement that nobody has."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements.lock").write_text(f"nothing-has-this-name==1 --hash=sha256:{'0' * 64}\n")
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make with a package index that is not there."""
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder), "PIP_NO_INDEX": "1"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def test_what_could_not_be_installed_is_said_with_what_to_do_and_the_next_try_begins_anew(checkout):
    for _ in range(2):
        done = make(checkout, "env")
        assert (done.returncode, done.stdout.count("\n")) == (2, 1)
        assert "No matching distribution found for nothing-has-this-name==1" in done.stderr
        assert "The same command tries again: make env" in done.stderr
        assert not (checkout / ".venv/half").exists()
        (checkout / ".venv/half").touch()


def test_help_lists_every_command(checkout):
    commands = {line.split()[0] for line in make(checkout, "help").stdout.splitlines()}
    phony = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY: "))
    assert commands == set(phony.split()[1:])
