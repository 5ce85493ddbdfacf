"""Commands that are stopped half way, or find a disk that cannot be written: told in a line, nothing left behind."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

from serve_app import command
from serve_app.cli import main
from serve_app.errors import BadRequestError, FieldError, InvalidDataError
from serve_app.models.adapters import file_import
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.adapters.registry_open import open_registry
from serve_app.models.catboost.scorer import train_classifier
from serve_app.models.untrusted import model_file
from serve_app.models.untrusted.model_trial import try_model
from tests.testing_kit.cluster.service_process import SCORECAT
from tests.testing_kit.deployments.deployed import train_deployed

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a command; return exit code and stderr."""
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def call(*words) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["scorecat", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


@pytest.fixture(autouse=True)
def try_here(monkeypatch):
    """Try models in this process: half a second saved for each import."""

    def try_model_here(model, path, limits):
        try_model(model)
        return {"resource limits": "in force"}

    monkeypatch.setattr(model_file, "_try_model", try_model_here)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("notebook") / "deployed_model.pkl"
    joblib.dump(train_deployed(n_trees=3).document, path)
    return path


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """No file may have more than 1,000 bytes, as on a disk that is nearly full; nothing else may be written here."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("scorecat-*"))


@pytest.fixture
def heard() -> Iterator[None]:
    """Signals as a terminal's process has them; one that a shell starts in the background ignores SIGINT."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_stopped_import_leaves_nothing_behind(run, deployed, tmp_path, monkeypatch, heard, number):
    build = file_import._build

    def stopped(*arguments):
        assert left_in(tmp_path)
        os.kill(os.getpid(), number)
        return build(*arguments)

    monkeypatch.setattr(file_import, "_build", stopped)
    code, said = run("models", "import", deployed)
    assert code == 130
    assert "Traceback" not in said
    assert left_in(tmp_path) == []
    assert DirectoryRegistry(tmp_path / "home" / "registry").names() == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_signals_that_are_ignored_stay_ignored(run, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run("models", "list")[0] == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_model_that_does_not_fit_on_the_disk_is_told_with_the_reason(tmp_path):
    rows = np.random.default_rng(0).random((200, 2)).astype(np.float32)
    target = (rows[:, 0] > 0.5).astype(np.int8)
    scorer = train_classifier((rows, target), (rows, target), ("a", "b"), iterations=20, train_dir=str(tmp_path))
    with small_files(), pytest.raises(BadRequestError, match=r"cannot write the model to .*/m\.cbm: File too large"):
        scorer.save(tmp_path / "m.cbm")


def test_a_command_that_finds_the_disk_full_says_so(tmp_path):
    done = subprocess.run(
        [SCORECAT, "data", "generate", str(tmp_path / "events.csv"), "--events", "500"],
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000)),
    )
    assert done.returncode == 2
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_the_system_refuses_to_write_is_a_failure_in_a_line(run, deployed, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number), "/somewhere/file")

    monkeypatch.setattr(file_import, "_build", refuse)
    code, said = run("models", "import", deployed)
    assert code == 1
    assert f"cannot write /somewhere/file: {os.strerror(number)}" in said.replace("\n", " ")


def test_a_mistake_of_ours_is_told_in_words_and_kept_whole_in_a_log(run, deployed, monkeypatch, tmp_path):
    def fail(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(file_import, "_build", fail)
    code, said = run("models", "import", deployed)
    assert code == 1
    assert "Traceback" not in said
    assert "Errno" not in said
    log = tmp_path / "home" / "logs" / "commands.log"
    assert str(log) in said
    assert "OSError: [Errno 9] Bad file descriptor" in log.read_text()
    assert "scorecat models import\n" in log.read_text()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not be read or written by this user"),
        (errno.ENAMETOOLONG, "is too long: a name may have 255 bytes"),
        (errno.ELOOP, "is a link that leads back to itself"),
        (errno.ENOTDIR, "a part of the path is a file"),
    ],
)
def test_what_the_system_says_of_a_path_is_said_in_words_with_what_to_do(run, deployed, monkeypatch, number, words):
    def refuse(*_):
        raise OSError(number, os.strerror(number), "/somewhere/file")

    monkeypatch.setattr(file_import, "_build", refuse)
    code, said = run("models", "import", deployed)
    assert code == 2
    assert "/somewhere/file" in said
    assert words in said.replace("\n", " ")


def test_output_that_cannot_be_written_is_told_and_fails():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([SCORECAT, "--version"], check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write: No space left on device: free space there; what was done before stays\n"


def test_an_alias_on_a_disk_that_cannot_be_written_is_not_moved(run, deployed, tmp_path, monkeypatch):
    assert run("models", "import", deployed)[0] == 0

    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        patch.setattr(Path, "unlink", refuse)
        code, said = run("models", "alias", "purchase@1", "challenger")
    assert code == 2
    assert "Read-only file system; nothing was changed" in said.replace("\n", " ")
    assert dict(DirectoryRegistry(tmp_path / "home" / "registry").aliases("purchase").versions) == {"champion": 1}


def test_a_file_is_no_registry(run, deployed, tmp_path, monkeypatch):
    with pytest.raises(BadRequestError, match="is a file"):
        open_registry(deployed)
    monkeypatch.setenv("SCORECAT_REGISTRY", str(deployed))
    for words in (("models", "list"), ("models", "import", deployed)):
        code, said = run(*words)
        assert code == 2
        assert "a registry is a directory (SCORECAT_REGISTRY)" in said.replace("\n", " ")


def test_fields_follow_a_sentence_without_two_marks_between():
    error = InvalidDataError("the schema cannot be used.", (FieldError("/features/0/kind", "must be text"),))
    assert str(error) == "the schema cannot be used: /features/0/kind: must be text"


def test_an_interrupt_while_the_command_is_still_being_imported_ends_it_quietly(monkeypatch, capsys):
    class Importing(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "serve_app.cli", Importing("serve_app.cli"))
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == ""
