"""A file that wants to run something runs nothing, and what it wanted is named."""

from __future__ import annotations

import builtins
import collections
import gzip
import io
import os
import pickle
import pickletools
import subprocess
import sys
import zlib
from pathlib import Path

import joblib
import joblib.numpy_pickle_compat
import numpy as np
import pytest
from catboost import CatBoostClassifier
from sklearn.preprocessing import LabelEncoder

from serve_app.errors import InvalidDataError
from serve_app.models.untrusted.model_file import read_model_file
from serve_app.models.untrusted.pickle_vm import ALLOWED, InertUnpickler, load_inert
from serve_app.models.untrusted.sandbox import Limits

pytestmark = pytest.mark.unit

MIB = 1 << 20
GLOBAL = b"ccatboost.core\nCatBoostClassifier\n"


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.parts = function, args

    def __reduce__(self):
        return self.parts


@pytest.fixture(scope="module")
def model():
    x = np.random.default_rng(0).normal(size=(50, 2))
    return CatBoostClassifier(iterations=2, verbose=0, allow_writing_files=False).fit(x, x[:, 0] > 0)


@pytest.fixture
def marker(tmp_path):
    """A file that exists only when something ran."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists(), "something in the file was run"


def refusal(data: bytes, tmp_path: Path, **limits) -> str:
    path = tmp_path / "model.pkl"
    path.write_bytes(data)
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    with pytest.raises(InvalidDataError) as caught:
        read_model_file(path, folder, Limits(**limits) if limits else None)
    return str(caught.value)


def write_text(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').write('x')"


ATTACKS = {
    "os.system": (lambda m: Call(os.system, f"touch {m}"), "posix.system"),
    "os.popen": (lambda m: Call(os.popen, f"touch {m}"), "os.popen"),
    "subprocess": (lambda m: Call(subprocess.Popen, ["touch", str(m)]), "subprocess.Popen"),
    "subprocess.check_output": (lambda m: Call(subprocess.check_output, ["touch", str(m)]), "subprocess.check_output"),
    "eval": (lambda m: Call(builtins.eval, write_text(m)), "builtins.eval"),
    "exec": (lambda m: Call(builtins.exec, write_text(m)), "builtins.exec"),
    "__import__": (lambda m: Call(builtins.__import__, "antigravity"), "builtins.__import__"),
    "open": (lambda m: Call(builtins.open, str(m), "w"), "io.open"),
    "getattr": (lambda m: Call(getattr, collections.OrderedDict, "fromkeys"), "builtins.getattr"),
    "an unlisted module": (lambda m: Call(zlib.compress, b"x"), "zlib.compress"),
    "a nested reduce": (lambda m: Call(Call(os.system, f"touch {m}").parts[0], Call(eval, "1")), "posix.system"),
    "numpy.load": (lambda m: Call(np.load, str(m)), "numpy.load"),
    "joblib.load": (lambda m: Call(joblib.load, str(m)), "joblib.numpy_pickle.load"),
    "a link": (lambda m: Call(os.symlink, "/etc/passwd", str(m)), "posix.symlink"),
    "a class of the author's": (lambda m: Call(Path, str(m)), "pathlib.Path"),
}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("place", ["alone", "in the dict", "in metadata", "as an encoder's classes"])
def test_a_call_of_anything_is_refused_by_name_and_never_made(name, place, marker, tmp_path, model):
    make, named = ATTACKS[name]
    attack = make(marker)
    encoder = LabelEncoder().fit(["a"])
    encoder.classes_ = attack
    value = {
        "alone": attack,
        "in the dict": {"model": attack, "feature_names": ["a"]},
        "in metadata": {"model": model, "model_metadata": {"by": [attack]}},
        "as an encoder's classes": {"model": model, "label_encoders": {"a": encoder}},
    }[place]
    if place != "alone" and name not in {"os.system", "eval", "getattr", "a nested reduce"}:
        data = pickle.dumps(value)  # the other places are tried through the machine alone, which is faster
        with pytest.raises(Exception, match=named.replace(".", r"\.")):
            load_inert(io.BytesIO(data))
        return
    said = refusal(pickle.dumps(value), tmp_path)
    assert named in said
    assert "Nothing in it was run" in said


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read_the_same_way(protocol, marker, tmp_path):
    attack = Call(os.system, f"touch {marker}")
    with pytest.raises(Exception, match=r"posix\.system"):
        load_inert(io.BytesIO(pickle.dumps({"a": [attack]}, protocol=protocol)))


def test_names_of_python_2_are_refused_under_the_names_of_today(marker):
    for data, named in (
        (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"ccommands\ngetoutput\n(S'touch x'\ntR.", "subprocess.getoutput"),
        (b"(S'touch x'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'touch x'\no.", "os.system"),
    ):
        with pytest.raises(Exception, match=named.replace(".", r"\.")):
            load_inert(io.BytesIO(data))


def test_a_nested_pickle_in_an_object_array_of_joblib_is_refused(marker, tmp_path, model):
    encoder = LabelEncoder().fit(["a", "b"])
    encoder.classes_ = np.array(["a", Call(os.system, f"touch {marker}")], dtype=object)
    path = tmp_path / "array.joblib"
    for compress in (0, 3, "gzip", "bz2", "lzma", "xz"):
        joblib.dump({"model": model, "label_encoders": {"a": encoder}}, path, compress=compress)
        assert "posix.system" in refusal(path.read_bytes(), tmp_path)


def test_a_nested_pickle_in_a_numpy_object_array_is_refused(marker, tmp_path, model):
    array = np.array([Call(builtins.eval, write_text(marker))], dtype=object)
    assert "builtins.eval" in refusal(pickle.dumps({"model": model, "extra": array}), tmp_path)


def test_an_array_in_another_file_is_refused(marker, tmp_path):
    wrapper = joblib.numpy_pickle_compat.NDArrayWrapper("/etc/passwd", np.ndarray)
    said = refusal(pickle.dumps({"a": wrapper}), tmp_path)
    assert "joblib.numpy_pickle_compat.NDArrayWrapper" in said


def test_an_array_that_wants_to_be_mapped_is_read_from_its_own_file(tmp_path, model):
    path = tmp_path / "mapped.joblib"
    joblib.dump({"model": model, "extra": np.arange(5.0), "feature_names": ["a", "b"]}, path)
    data = path.read_bytes()
    assert b"allow_mmap" in data
    found = read_model_file(path, tmp_path)
    assert found.document["extra_keys"] == ["extra"]


def test_a_nested_object_in_the_models_state_is_refused(marker, tmp_path, model):
    state = {**model.__getstate__(), "eval_metric": Call(os.system, f"touch {marker}")}
    data = b"\x80\x02" + GLOBAL + b")\x81" + pickle.dumps(state, protocol=2)[2:-1] + b"b."
    assert "posix.system" in refusal(data, tmp_path)


def test_a_class_that_inherits_from_an_allowed_one_is_refused():
    with pytest.raises(Exception, match=r"notebook\.BetterClassifier"):
        load_inert(io.BytesIO(b"cnotebook\nBetterClassifier\n)\x81}b."))


TRICKS = {
    # BUILD on the class itself: a real machine would set attributes of the class
    "state of a class": (GLOBAL + b"(dS'__setstate__'\ncbuiltins\nobject\nsb.", "state set on catboost.core"),
    # BUILD twice, with slots: a real machine would call setattr
    "state twice": (GLOBAL + b")\x81(dN\x86b(dN\x86b.", "state set on a Record"),
    "state of a list": (b"](dS'a'\nI1\nsb.", "state set on a list"),
    "a call of a value": (b"S'x'\n)R.", "a call of a str"),
    "a call of a record": (GLOBAL + b")\x81)R.", "a call of a Record"),
    "items of a record": (GLOBAL + b")\x81I1\na.", "items put into a Record"),
    "pairs of a class": (GLOBAL + b"S'__new__'\nI1\ns.", "items put into catboost.core.CatBoostClassifier"),
    "a reconstructor of a value": (b"ccopyreg\n_reconstructor\n(S'x'\ncbuiltins\nobject\nNtR.", "_reconstructor"),
    "a reconstructor of another base": (
        b"ccopyreg\n_reconstructor\n(" + GLOBAL + b"cbuiltins\nlist\nNtR.", "_reconstructor",
    ),
    "keyword arguments": (GLOBAL + b")}(S'a'\nI1\nu\x92.", "keyword arguments"),
    "a codec": (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "_codecs.encode"),
    "a persistent id": (b"Pfile:///etc/passwd\n.", "persistent id 'file:///etc/passwd'"),
    "a persistent id of a value": (b"S'x'\nQ.", "persistent id 'x'"),
    "an extension code": (b"\x82\x07.", "copyreg extension 7"),
    "a large extension code": (b"\x84\x01\x02\x03\x00.", "copyreg extension 197121"),
    "a buffer from outside": (b"\x80\x05\x97.", "out-of-band buffer"),
    "a dotted name": (b"\x80\x04\x8c\x0dcatboost.core\x8c\x1bCatBoostClassifier.__init__\x93.", "Classifier.__init__"),
    "a dotted name of a dict": (b"\x80\x04\x8c\x0bcollections\x8c\x10OrderedDict.keys\x93.", "OrderedDict.keys"),
    "a name that is no text": (b"\x80\x04K\x01K\x02\x93.", "no pickle"),
    "a structured array": (
        b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81(dS'shape'\nI1\n\x85sS'dtype'\ncnumpy\ndtype\n(S'V8'\ntRsb.",
        "dtype 'V8'",
    ),
    "an array larger than anything": (
        b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81(dS'shape'\nI999999999\n\x85sS'dtype'\ncnumpy\ndtype\n(S'f8'\ntRsb.",
        "an array of more than 1024 MiB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_on_the_machine_itself_are_refused(name):
    data, said = TRICKS[name]
    with pytest.raises(Exception, match=said.replace(".", r"\.").replace("'", ".")):
        load_inert(io.BytesIO(data))


def test_the_machine_reads_every_instruction_of_every_protocol_on_its_own_terms():
    """Every opcode that calls, imports or changes something is one of ours."""
    import serve_app.models.untrusted.pickle_vm as vm

    acting = {"REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "OBJ", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS",
              "NEXT_BUFFER"}  # fmt: skip
    for code in pickletools.opcodes:
        method = InertUnpickler.dispatch[ord(code.code)]
        if code.name in acting:
            assert method.__module__ == vm.__name__, code.name
    assert {"INST", "GLOBAL", "STACK_GLOBAL", "EXT1"} <= {c.name for c in pickletools.opcodes}  # these ask find_class
    for name in ("find_class", "persistent_load", "get_extension", "_instantiate"):
        assert getattr(InertUnpickler, name).__module__ == vm.__name__


def test_nothing_that_is_allowed_is_imported(tmp_path, model):
    data = pickle.dumps({"model": model, "label_encoders": {"a": LabelEncoder().fit(["x"])}})
    script = """
import io, sys
from serve_app.models.untrusted.pickle_vm import load_inert
load_inert(io.BytesIO(sys.stdin.buffer.read()))
print(sorted({m.partition('.')[0] for m in sys.modules} & {'catboost', 'sklearn', 'numpy', 'joblib', 'pandas'}))
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], input=data, capture_output=True, check=True)
    assert done.stdout == b"[]\n"
    assert all(module.partition(".")[0] not in {"os", "posix", "subprocess", "sys"} for module, _ in ALLOWED)


def test_a_small_file_that_unpacks_to_much_is_stopped(tmp_path):
    bomb = zlib.compress(b"\x80\x04B" + (120 * MIB).to_bytes(4, "little") + bytes(120 * MIB) + b".", 1)
    assert len(bomb) < MIB
    assert "unpacks to more than" in refusal(bomb, tmp_path, memory_bytes=160 * MIB)


def test_a_pickle_that_needs_more_memory_than_allowed_is_stopped(tmp_path):
    text = "😀".encode() + b"a" * (70 * MIB)  # one such character makes every other one take four bytes
    bomb = gzip.compress(b"\x80\x04X" + len(text).to_bytes(4, "little") + text + b".", 1)
    assert "more than 160 MiB of memory" in refusal(bomb, tmp_path, memory_bytes=160 * MIB)


def test_a_length_that_is_a_lie_is_no_memory(tmp_path):
    for data in (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b"x.", b"\x80\x04\x95" + b"\xff" * 7 + b"\x0fx."):
        assert "cut short" in refusal(data, tmp_path) or "no pickle" in refusal(data, tmp_path)


def test_a_file_that_takes_for_ever_is_stopped(tmp_path):
    # 30 MB of memo look-ups would take minutes; the limit is one second of computing
    slow = b"\x80\x04]q\x00" + b"h\x000" * 12_000_000 + b"."
    assert "more than 1 s of computing" in refusal(slow, tmp_path, cpu_s=1)
    assert "longer than 0.5 s" in refusal(slow, tmp_path, wall_s=0.5)


def test_parts_that_unfold_without_end_are_stopped(tmp_path, model):
    laughs = ["ha"]
    for _ in range(40):
        laughs = [laughs, laughs]
    said = refusal(pickle.dumps({"model": model, "model_metadata": laughs}), tmp_path)
    assert "unfolds to more than" in said
    loop: list = []
    loop.append(loop)
    assert "nested too deeply" in refusal(pickle.dumps({"model": model, "metrics": loop}), tmp_path)
    deep = b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b"."
    assert "a list, neither" in refusal(deep, tmp_path)


def test_the_model_cannot_be_written_through_a_link(tmp_path, model):
    secret = tmp_path / "secret"
    secret.write_text("keep")
    data = pickle.dumps({"model": model, "feature_names": ["a", "b"]})
    (tmp_path / "good.pkl").write_bytes(data)
    folder = tmp_path / "own"
    folder.mkdir()
    found = read_model_file(tmp_path / "good.pkl", folder)
    assert found.model.parent == folder
    assert not found.model.is_symlink()
    assert secret.read_text() == "keep"
