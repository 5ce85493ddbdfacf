"""Every command with the files, names and services that nobody means to give: it ends with words that say what to do.

The commands and their parameters are read from the command line itself, so that a new one is tried here too.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import socket
import sys
import threading
import typing
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serve_app import cli
from serve_app.cli import start
from serve_app.cli.unforeseen import LOG, explain
from serve_app.errors import InvariantError, ScorecatError
from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.service.synthetic import generate_events
from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.models.adapters.file_import import load_sample
from serve_app.models.adapters.registry_folder import DirectoryRegistry

pytestmark = pytest.mark.unit

RAW = re.compile(
    r"Traceback|\[Errno|\[errno|pyarrow|<class|<unicode|\b(?!Invalid)[A-Z][a-z]\w*(Error|Exception)\b|Invalid:"
)
"""What belongs to the interpreter, to Arrow or to a parser, and is no word of ours."""

GOOD: dict[str, str] = {"row": "{}", "job_id": "score-1", "rollout_id": "1", "alias": "beta", "version": "1"}
"""Values of arguments that are not tried just now, by name; any other is the name of a model, or a file."""
LIGHT = {"runs": "2", "workers": "1", "iterations": "1", "concurrency": "1"}
"""Options that keep a command that has nothing to complain of short."""
PLACES = {"input", "output", "row"}
"""Arguments that are text and name a file."""


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command.load()
        return
    for name, each in command.commands.items():
        yield from walk(each, (*path, name))


COMMANDS = dict(walk(cli.build_command()))


@functools.cache
def hints_of(callback: Any) -> dict[str, Any]:
    """Return the evaluated annotations of a command, once: there are a hundred times as many questions."""
    return typing.get_type_hints(callback)


def find_kind(command: Any, parameter: Any) -> type:
    """Return the first plain type of a parameter; lists and optional ones are those of their members."""
    waiting = [hints_of(command.callback).get(parameter.name, str)]
    while waiting:
        hint = waiting.pop(0)
        if typing.get_args(hint):
            waiting += [each for each in typing.get_args(hint) if each is not type(None)]
        else:
            return hint
    return str


def build_words(path: tuple[str, ...], command: Any, tried: str, value: str) -> list[str]:
    """Return a whole command line in which one parameter has an odd value."""
    options, arguments = [], []
    for each in command.params:
        is_argument = each.param_type_name == "argument"
        given = value if each.name == tried else None
        if given is None and is_argument and each.required:
            kind = find_kind(command, each)
            given = GOOD.get(each.name, "purchase" if kind is str and each.name not in PLACES else "good.csv")
        if given is None and not is_argument and find_kind(command, each) is int:
            given = LIGHT.get(each.name, "10" if each.name == "events" else None)
        if each.name == "force":
            options.append("--force")
        if given is not None and is_argument:
            arguments.append(given)
        elif given is not None:
            options += [each.opts[0], given]
    return [*path, *options, "--", *arguments]


def run(words: list[str], monkeypatch) -> tuple[Any, str]:
    """Run a command in this process; return its exit code and all that it said."""
    monkeypatch.setattr(sys, "argv", ["scorecat", *words])
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0, said.getvalue()


def check(words: list[str], monkeypatch, place: Path, *, may_do: bool = False) -> None:
    """Run a command and see that it ends in words of ours, and that it had them."""
    code, said = run(words, monkeypatch)
    assert code in ((0, 1, 2) if may_do else (1, 2)), (words, code, said)
    shown = said.replace(str(place), "")
    assert not RAW.search(shown), (words, said)
    assert code == 0 or said.strip(), words
    kept = place / "home" / "logs" / LOG
    assert not kept.exists(), (words, kept.read_text())


@pytest.fixture
def place(tmp_path, monkeypatch, package_dir) -> Path:
    """A folder with a whole log, and a state folder with a model; no cluster is started from it."""
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    registry = DirectoryRegistry(tmp_path / "home" / "registry")
    registry.publish("purchase", package_dir)
    registry.move_alias("purchase", "champion", 1)
    with LogWriter(tmp_path / "good.csv") as writer:
        for batch in generate_events(300, seed=0):
            writer.write(batch)

    def refuse(*_):
        raise InvariantError("no cluster is started here")

    monkeypatch.setattr(start, "_start_ray", refuse)
    return tmp_path


CONTENTS = {
    "empty": b"",
    "garbage": bytes(range(256)) * 9,
    "nul": b"\0" * 100,
    "utf16": "event_time,price\n1,2\n".encode("utf-16"),
    "latin1": "event_time,k\xe4se\n1,2\n".encode("latin-1"),
    "page": b"<!doctype html><html>not found</html>",
    "list": b"- 1\n- 2\n",
    "tabs": b"steps:\n\t- 1\n",
    "huge": b"steps: [" + b"9" * 5000 + b"]\n",
    "twice": b"steps: [1]\nsteps: [2]\n",
    "alias": b"a: &a [*a]\n",
    "date": b"2020-99-99: 1\n",
    "deep": b"[" * 20_000,
    "null": b"null",
    "quote": b'a,b\n"1,2\n',
    "half-gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x4c",
    "half-parquet": b"PAR1\x15\x04\x15\x10",
    "half-model": b"CBM1" + b"\0" * 40,
}


def make_odd(folder: Path, suffixes: tuple[str, ...], contents: dict[str, bytes]) -> list[str]:
    """Make odd files in a new folder and return their paths, with names of what is not there."""
    folder.mkdir()
    before = Path.cwd()
    for suffix in suffixes:
        for name, content in contents.items():
            (folder / f"{name}{suffix}").write_bytes(content)
        (folder / f"folder{suffix}").mkdir()
        (folder / f"dangling{suffix}").symlink_to(folder / "nowhere")
        (folder / f"loop{suffix}").symlink_to(folder / f"loop{suffix}")
        (folder / f"full{suffix}").symlink_to("/dev/full")
        os.chdir(folder)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"socket{suffix}")
        os.chdir(before)
    found = [str(path) for path in sorted(folder.iterdir())]
    for suffix in suffixes:
        found += [
            str(folder / f"missing{suffix}"),
            str(folder / "missing" / f"x{suffix}"),
            str(folder / f"empty{suffixes[0]}" / f"child{suffix}"),
            str(folder / ("n" * 300 + suffix)),
            "/".join(["d" * 200] * 25) + suffix,
            str(folder / f"new\nline 'quote\" $x{suffix}"),
            str(folder / f"\udcff{suffix}"),
        ]
    return [*found, "", "/", ".", "/dev/full", "/dev/null"]


def list_places() -> list[tuple[tuple[str, ...], str]]:
    return [
        (path, each.name)
        for path, command in COMMANDS.items()
        for each in command.params
        if (find_kind(command, each) is Path or each.name in PLACES) and each.name != "sample"
    ]


@pytest.mark.parametrize(
    ("path", "name"), list_places(), ids=lambda value: value if isinstance(value, str) else "-".join(value)
)
def test_a_command_given_an_odd_file_says_what_to_do(place, monkeypatch, path, name):
    contents = CONTENTS
    if (path, name) in ((("models", "import"), "path"), (("train",), "report")):  # each of these takes its time
        contents = {each: CONTENTS[each] for each in ("empty", "garbage")}
    suffixes = (".csv", ".parquet")
    if (path, name) == (("models", "export"), "path"):
        suffixes = (".cbm",)
    elif contents is not CONTENTS or name in {"row", "plan", "plan_file", "schema", "mapping"}:
        suffixes = (".yaml",)
    for value in make_odd(place / "odd", suffixes, contents):
        words = build_words(path, COMMANDS[path], name, f"@{value}" if name == "row" else value)
        check(words, monkeypatch, place, may_do=True)


@pytest.mark.parametrize("path", COMMANDS, ids="-".join)
def test_a_command_given_an_odd_text_says_what_to_do(place, monkeypatch, path):
    command = COMMANDS[path]
    for each in command.params:
        if find_kind(command, each) is not str or each.name in PLACES:
            continue
        for value in ("", "n" * 5000, "new\nline 'quote\" $x", "\udcff", "a@\u00fc/../.."):
            check(build_words(path, command, each.name, value), monkeypatch, place, may_do=True)


def test_a_sample_that_is_odd_is_told_with_its_name(place):
    """A sample is read after its model, which takes long: here it is read alone."""
    for value in make_odd(place / "odd", (".csv", ".parquet"), CONTENTS):
        with pytest.raises((ScorecatError, OSError)) as raised:
            load_sample(Path(value), PURCHASE_FEATURES)
        said = str(explain(raised.value))
        assert not RAW.search(said.replace(str(place), "")), (value, said)
        assert "no words for" not in said, (value, said)


class Stranger(BaseHTTPRequestHandler):
    """Answers every request with what its server was given, or closes the connection."""

    def answer(self) -> None:
        status, content = self.server.answer  # type: ignore[attr-defined]
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if status:
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        self.close_connection = True

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_) -> None:
        """Say nothing."""


ANSWERS = {
    "page": (200, b"<html>hello</html>"),
    "no page": (404, b"<html>not found</html>"),
    "list": (200, b"[]"),
    "object": (200, b"{}"),
    "other object": (
        200,
        b'{"rollouts": [{}], "jobs": [{}], "changes": [{}], "models": [{}], "model": 1, "version": "x"}',
    ),
    "broken": (500, b"oops"),
    "closed": (0, b""),
}


@pytest.fixture
def stranger() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


SPEAKING = [path for path, command in COMMANDS.items() if any(each.name == "url" for each in command.params)]


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_command_that_meets_another_server_says_so(place, monkeypatch, stranger, kind):
    stranger.answer = ANSWERS[kind]  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{stranger.server_port}"
    for path in SPEAKING:
        if path in (("replay",), ("events", "load"), ("features", "verify")) and kind == "closed":
            continue  # these wait for a service that is restarted, as they should
        check(build_words(path, COMMANDS[path], "url", url), monkeypatch, place, may_do=True)


DAMAGED = {
    "cluster.json": (b"[]", b"\0garbage", b'{"token": 1}'),
    "state/rollouts.db": (b"garbage" * 500,),
    "state/split.json": (b"[1", b"[]"),
    "state/history.secret": (b"\xff\xfe",),
    "registry/purchase/aliases.json": (b"[", b"[]"),
    "registry/purchase/versions/1/manifest.json": (b"{}", b"\xff", b"[]"),
    "registry/purchase/versions/1/vocabularies.json": (b"[", b"\xff"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_command_that_finds_its_own_files_damaged_says_so(place, monkeypatch, name):
    path = place / "home" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    for content in (*DAMAGED[name], None):
        path.unlink(missing_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        for words, command in COMMANDS.items():
            if words not in (("train",), ("models", "import"), ("data", "generate"), ("rollout", "simulate")):
                check(build_words(words, command, "", ""), monkeypatch, place, may_do=True)


@pytest.mark.parametrize("path", COMMANDS, ids="-".join)
def test_a_command_whose_state_folder_is_a_file_says_so(place, monkeypatch, path):
    monkeypatch.setenv("SCORECAT_HOME", str(place / "good.csv"))
    check(build_words(path, COMMANDS[path], "", ""), monkeypatch, place, may_do=True)
