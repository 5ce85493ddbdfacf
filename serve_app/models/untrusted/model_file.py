"""Read a model file that somebody else made, in a process of its own.

A pickle is read inertly by `serve_app.models.untrusted.pickle_child`. Every model, however it came, is then loaded
once and scored a few rows by `serve_app.models.untrusted.model_trial` before this process touches it: a damaged
CatBoost file can end the process that loads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from serve_app.errors import InvalidDataError, NotFoundError
from serve_app.models.untrusted.model_contents import CATBOOST, explain_contents
from serve_app.models.untrusted.sandbox import Limits
from serve_app.runtime.shown_values import LIMIT, show_line
from serve_app.storage.contents import HEAD_BYTES

MAX_HEADER_BYTES: Final = 256 << 20
TRIAL_MEMORY_BYTES: Final = 4 << 30
"""CatBoost and pandas alone reserve about 1 GiB of address space."""
UNWRITTEN: Final = 120
"""Exit code of Python when what was written could not be flushed at its end."""
Kind = Literal["pickle", "cbm", "json"]
SUFFIXES: Final[dict[str, Kind]] = {
    ".cbm": "cbm", ".json": "json", ".pkl": "pickle", ".pickle": "pickle", ".joblib": "pickle",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that was read, and what came with the model.

    Attributes
    ----------
    kind : {"pickle", "cbm", "json"}
    name : str
        File name.
    sha256 : str
    size_bytes : int
    model : Path
        The model alone, as CatBoost's own file.
    document : dict
        What `serve_app.models.untrusted.pickle_content.read_content` returns beside the model, and the
        compression; empty for a bare model.
    protections : dict of str to str
        What held while the file was read.
    """

    kind: Kind
    name: str
    sha256: str
    size_bytes: int
    model: Path
    document: dict[str, Any]
    protections: dict[str, str]

    def describe(self) -> dict[str, Any]:
        """Return where the model came from, for a manifest."""
        return {
            "file": self.name,
            "kind": self.kind,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "model_class": self.document.get("model_class", "CatBoost"),
        }


def read_model_file(path: Path, folder: Path, limits: Limits | None = None) -> ModelFile:
    """Read a pickle or a bare CatBoost model; the model alone is written into `folder`.

    Raises
    ------
    NotFoundError
        There is no such file, or it cannot be read.
    InvalidDataError
        It is neither, it is damaged, or it asks for a class that is not allowed; the message names it.
    """
    limits = limits or Limits()
    if path.exists() and not path.is_file():
        raise NotFoundError(f"{path} is no regular file: give the file of a model")
    try:
        with path.open("rb", buffering=0) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            head = file.read(HEAD_BYTES)
            file.seek(0)
            kind = _detect_kind(path, head, size)
            model = folder / f"model.{kind}"
            if kind == "pickle":
                document, protections = _read_pickle(file, path, model, limits)
                kind = document.pop("bare", kind)
                model = model.rename(folder / f"model.{'json' if kind == 'json' else 'cbm'}")
            else:
                document, protections = {}, {}
                with model.open("wb") as copy:
                    shutil.copyfileobj(file, copy)
    except OSError as exc:
        raise NotFoundError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    if notes := _compare_name(path, kind):
        document["notes"] = [*document.get("notes", ()), *notes]
    protections |= {f"{what}, while it was tried": state for what, state in _try_model(model, path, limits).items()}
    return ModelFile(kind, path.name, sha256, size, model, document, protections)


def _detect_kind(path: Path, head: bytes, size: int) -> Kind:
    if size == 0:
        raise InvalidDataError(f"{path} is empty")
    if reason := explain_contents(head):
        raise InvalidDataError(f"{path} {reason}")
    if head.startswith(CATBOOST):
        return "cbm"
    return "json" if head.lstrip()[:1] == b"{" else "pickle"


def _compare_name(path: Path, kind: Kind) -> list[str]:
    """Return that a file is not what its name says, if so: it is read as what it is."""
    named = SUFFIXES.get(path.suffix.lower(), kind)
    words = {"pickle": "a pickle", "cbm": "CatBoost's own file", "json": "CatBoost's JSON"}
    return [] if named == kind else [f"the file is {words[kind]}, whatever its name ends in: it was read as such"]


def _read_pickle(file: IO[bytes], path: Path, model: Path, limits: Limits) -> tuple[dict[str, Any], dict[str, str]]:
    with tempfile.TemporaryFile() as answer:
        ended = _run("pickle_child", limits, stdin=file, stdout=answer)
        header = _receive(answer, model) if ended == "" else None
    if header is None:
        why = ended or "gave an answer that makes no sense"
        raise InvalidDataError(f"{path} was not imported: reading it {why}. Nothing in it was run")
    error = header.pop("error", None)
    if error is not None and error["kind"] == "contents":
        raise InvalidDataError(f"{path} {error['detail']}")
    if error is not None:
        raise InvalidDataError(f"{path} was not imported: {_describe_error(error, limits)}")
    return header, header.pop("protections")


def _receive(answer: IO[bytes], model: Path) -> dict[str, Any] | None:
    """Read the answer of `pickle_child` and write the model's bytes; None when it makes no sense."""
    answer.seek(0)
    size = answer.read(8)
    (n,) = struct.unpack(">Q", size) if len(size) == 8 else (0,)  # noqa: PLR2004
    data = answer.read(n) if n <= MAX_HEADER_BYTES else b""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        return None
    with model.open("wb") as copy:
        shutil.copyfileobj(answer, copy)
    return header if isinstance(header, dict) and isinstance(header.get("protections"), dict) else None


def _describe_error(error: dict[str, str], limits: Limits) -> str:
    detail = show_line(error["detail"], LIMIT)
    if error["kind"] == "refused":
        return (
            f"it asks for {detail}, which is not on the list of what a model file may hold. Nothing in it was run. "
            "Write it again as a dict of a CatBoost model, LabelEncoders, lists, numbers and text"
        )
    if error["kind"] == "memory":
        return f"reading it needs more than {limits.memory_bytes >> 20} MiB of memory: allow more with --max-memory"
    return f"{detail}. If it is a model that you can load, write it again with joblib.dump, or model.save_model"


def _try_model(model: Path, path: Path, limits: Limits) -> dict[str, str]:
    """Load and score the model in a process of its own; return what held there."""
    roomy = dataclasses.replace(limits, memory_bytes=TRIAL_MEMORY_BYTES + limits.memory_bytes)
    with tempfile.TemporaryFile() as answer:
        ended = _run("model_trial", roomy, str(model), stdout=answer)
        answer.seek(0)
        lines = answer.read().decode("utf-8", "replace").splitlines()
    try:
        found = json.loads(lines[-1])
    except (ValueError, IndexError):
        found = {}
    if ended or "error" in found or "protections" not in found:
        reason = found.get("error") or (f"loading it {ended}" if ended else "loading it gave no answer")
        reason = reason.removeprefix(f"{model} is not a readable CatBoost model: ")
        raise InvalidDataError(f"{path} is no usable CatBoost model: {reason}")
    return dict(found["protections"])


def _run(module: str, limits: Limits, *arguments: str, stdout: IO[bytes], stdin: IO[bytes] | None = None) -> str:
    """Run a module of this folder with nothing of this process's environment; return how it failed, or nothing."""
    command = [
        sys.executable,
        "-I",
        "-m",
        f"serve_app.models.untrusted.{module}",
        json.dumps(dataclasses.asdict(limits)),
    ]
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(  # noqa: S603  (our own module)
                [*command, *arguments], stdin=stdin or subprocess.DEVNULL, stdout=stdout, stderr=errors,
                env={"OMP_NUM_THREADS": "1"}, cwd="/", timeout=limits.wall_s, check=False, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"took longer than {limits.wall_s:g} s and was stopped"
        errors.seek(0)
        words = errors.read()[-2000:].decode("utf-8", "replace").strip().splitlines()
    return _explain_end(done.returncode, words[-1] if words else "", limits)


def _explain_end(code: int, last_words: str, limits: Limits) -> str:
    """Return why a process ended with a code other than 0."""
    why = f"failed ({last_words or f'exit code {code}'})"
    if code == 0:
        why = ""
    elif code in (-signal.SIGXCPU, -signal.SIGKILL):
        why = f"took more than {limits.cpu_s} s of computing and was stopped"
    elif last_words.startswith("MemoryError"):
        why = f"needs more than {limits.memory_bytes >> 20} MiB of memory (--max-memory allows more)"
    elif code == UNWRITTEN:
        why = f"worked, but its result could not be written: is {tempfile.gettempdir()} full? TMPDIR names another"
    elif code < 0:
        why = f"ended by {signal.Signals(-code).name}: the file is damaged"
    return why
