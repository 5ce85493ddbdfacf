"""Read a pickle without running anything in it.

A pickle is a program for a small machine: it names classes and functions, calls them and sets their
state. This machine reads the same instructions and does none of that. A name becomes a `Name`, a call
or a new object a `Record` of what would have been called with what, and state is kept beside it. Only
names on the allow-list may occur at all, and lists, dicts and sets are changed only when they are
exactly those. joblib's arrays, whose bytes follow their wrapper in the file, are read as bytes; nested
pickles go through a machine of the same kind.

Only the standard library is imported here: the module runs in a process of its own with nothing else.
"""

from __future__ import annotations

import _compat_pickle
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol

MODELS: Final = frozenset(
    ("catboost.core", name) for name in ("CatBoost", "CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker")
)
LABEL_ENCODERS: Final = frozenset(
    {("sklearn.preprocessing._label", "LabelEncoder"), ("sklearn.preprocessing.label", "LabelEncoder")}
)
WRAPPERS: Final = frozenset(
    {("joblib.numpy_pickle", "NumpyArrayWrapper"), ("sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper")}
)
ARRAY_MAKERS: Final = frozenset((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core"))
BUFFER_ARRAYS: Final = frozenset((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core"))
SCALARS: Final = frozenset((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core"))
TIMES: Final = frozenset(("datetime", name) for name in ("datetime", "date", "timedelta", "timezone"))
DTYPE: Final = ("numpy", "dtype")
NDARRAY: Final = ("numpy", "ndarray")
_BUILTINS: Final = frozenset(
    ("builtins", name) for name in ("bytearray", "complex", "dict", "frozenset", "list", "object", "set", "tuple")
)
_ENCODE: Final = ("_codecs", "encode")
_RECONSTRUCTOR: Final = ("copyreg", "_reconstructor")
_DICTS: Final = frozenset({("collections", "OrderedDict"), ("collections", "defaultdict"), ("builtins", "dict")})
ALLOWED: Final = (
    MODELS | LABEL_ENCODERS | WRAPPERS | ARRAY_MAKERS | BUFFER_ARRAYS | SCALARS | TIMES | _BUILTINS | _DICTS
    | {DTYPE, NDARRAY, _ENCODE, _RECONSTRUCTOR}
)  # fmt: skip
"""Every (module, name) that may occur. None of them is ever imported or called."""

MAX_ARRAY_BYTES: Final = 1 << 30
NO_PICKLE: Final = "the bytes are no pickle"


class RefusedError(Exception):
    """The pickle asks for something that is not allowed; the text names it."""


class MalformedError(Exception):
    """The bytes are no pickle, or one that is cut short."""


class Source(Protocol):
    """Where the bytes come from."""

    def read(self, n: int) -> bytes:
        """Return n bytes, fewer at the end."""
        ...

    def readline(self) -> bytes:
        """Return bytes up to and with the next newline."""
        ...


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function by its name; nothing was imported."""

    module: str
    name: str

    @property
    def pair(self) -> tuple[str, str]:
        """(module, name)."""
        return self.module, self.name

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Record:
    """What would have been an object: the name called, its arguments, and its state.

    Attributes
    ----------
    name : Name
    args : tuple
    state : object
        What the pickle would have handed to ``__setstate__``; None when it never did.
    payload : bytes, list or None
        The content of a joblib array: raw bytes, or what its nested pickle holds.
    """

    name: Name
    args: tuple[Any, ...] = ()
    state: Any = None
    payload: Any = field(default=None)


class InertUnpickler(pickle._Unpickler):  # noqa: SLF001
    """The machine; `load` returns plain values, `Name`s and `Record`s.

    Parameters
    ----------
    source : Source
    """

    dispatch: ClassVar[dict[int, Any]]
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    proto: int
    _unframer: Any

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.source = source

    def find_class(self, module: str, name: str) -> Name:
        """Return the name when it is allowed; raises RefusedError with it when not."""
        if self.proto < 3:  # noqa: PLR2004  (names of Python 2)
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        if not (module.replace(".", "_").isidentifier() and name.replace(".", "_").isidentifier()):
            raise MalformedError(NO_PICKLE)  # a text that begins like an instruction
        if (module, name) not in ALLOWED:
            raise RefusedError(f"{module}.{name}")
        return Name(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse: a persistent id stands for something outside of the file."""
        raise RefusedError(f"persistent id {str(pid)[:80]!r}")

    def get_extension(self, code: int) -> None:
        """Refuse: an extension code stands for a class that only the writer's process knows."""
        raise RefusedError(f"copyreg extension {code}")

    def _instantiate(self, name: Any, args: Any) -> None:
        self.append(self._make(name, tuple(args)))

    def _make(self, name: Any, args: Any) -> Any:
        if type(name) is not Name:
            raise RefusedError(f"a call of {_describe(name)}")
        if type(args) is not tuple:
            raise MalformedError(f"{name} is called with {_describe(args)}")
        if name.pair == _ENCODE:
            return _encode(args)
        if name.pair in _DICTS:
            return {}
        if name.pair == _RECONSTRUCTOR:
            return self._reconstruct(args)
        if name.module == "builtins":
            return _make_builtin(name, args)
        return Record(name, args)

    def _reconstruct(self, args: tuple[Any, ...]) -> Record:
        if not args or type(args[0]) is not Name or (len(args) > 1 and args[1] != Name("builtins", "object")):
            raise RefusedError("copyreg._reconstructor of something that is no class")
        return Record(args[0])

    def load_reduce(self) -> None:
        """Record a call, or a new object, in place of making it."""
        args = self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], args)

    load_newobj = load_reduce

    def load_newobj_ex(self) -> None:
        """Record a new object in place of making one; keyword arguments are refused."""
        kwargs, args = self.stack.pop(), self.stack.pop()
        if kwargs != {}:
            raise RefusedError(f"keyword arguments of {_describe(self.stack[-1])}")
        self.stack[-1] = self._make(self.stack[-1], args)

    def load_build(self) -> None:
        """Keep an object's state in place of setting it, and read the bytes of a joblib array."""
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is dict:  # an OrderedDict's attributes mean nothing here
            return
        if type(target) is not Record or target.state is not None:
            raise RefusedError(f"state set on {_describe(target)}")
        target.state = state
        if target.name.pair in WRAPPERS:
            if self._unframer.current_frame is not None and self._unframer.current_frame.read(1):
                raise MalformedError("an array begins inside a frame of the pickle")
            self._unframer.current_frame = None
            target.payload = _read_array(self.source, state)

    def load_append(self) -> None:
        """Append to a list, if it is one."""
        value = self.stack.pop()
        _expect(self.stack[-1], list).append(value)

    def load_appends(self) -> None:
        """Extend a list, if it is one."""
        values = self.pop_mark()
        _expect(self.stack[-1], list).extend(values)

    def load_setitem(self) -> None:
        """Set a dict's item, if it is one."""
        value, key = self.stack.pop(), self.stack.pop()
        _expect(self.stack[-1], dict)[key] = value

    def load_setitems(self) -> None:
        """Set a dict's items, if it is one."""
        values = self.pop_mark()
        target = _expect(self.stack[-1], dict)
        target.update(zip(values[::2], values[1::2], strict=True))

    def load_additems(self) -> None:
        """Add to a set, if it is one."""
        values = self.pop_mark()
        _expect(self.stack[-1], set).update(values)

    def load_next_buffer(self) -> None:
        """Refuse: the buffer would come from outside of the file."""
        raise RefusedError("an out-of-band buffer")

    def load_obj(self) -> None:
        """Record a new object in place of making one."""
        args = self.pop_mark()
        if not args:
            raise MalformedError("an object without a class")
        self._instantiate(args[0], args[1:])


InertUnpickler.dispatch = {
    code: getattr(InertUnpickler, method.__name__)
    for code, method in pickle._Unpickler.dispatch.items()  # noqa: SLF001
}
"""What each instruction does: this class's own method wherever it has one."""


def load_inert(source: Source) -> Any:
    """Read one pickle.

    Raises
    ------
    RefusedError
        A name that is not on the allow-list, or an instruction that nobody needs here.
    MalformedError
        The bytes are no pickle, or it is cut short.
    """
    unpickler = InertUnpickler(source)
    try:
        return unpickler.load()
    except (RefusedError, MalformedError, MemoryError):
        raise
    except (EOFError, struct.error) as exc:
        raise MalformedError("the pickle is cut short") from exc
    except Exception as exc:  # of a machine that was given no program: what it says helps nobody
        raise MalformedError(NO_PICKLE) from exc


def _read_array(source: Source, state: Any) -> Any:
    """Read the bytes that follow a joblib array wrapper: raw ones, or a nested pickle."""
    if type(state) is not dict:
        raise MalformedError("a joblib array without its description")
    kind = dtype_code(state.get("dtype"))
    if kind == "O":
        return load_inert(source)
    shape = state.get("shape")
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise MalformedError("a joblib array without a shape")
    size = int(kind[2:])
    for n in shape:
        size *= n
        if size > MAX_ARRAY_BYTES:
            raise RefusedError(f"an array of more than {MAX_ARRAY_BYTES >> 20} MiB")
    if state.get("numpy_array_alignment_bytes") is not None:
        padding = source.read(1)
        source.read(padding[0] if padding else 0)
    data = source.read(size)
    if len(data) != size:
        raise MalformedError("the pickle is cut short inside an array")
    return data


def dtype_code(dtype: Any) -> str:
    """Return a pickled dtype as byte order, kind and bytes, such as ``<f8``; ``O`` for objects.

    Raises
    ------
    RefusedError
        Structured, or of another kind than numbers, booleans and text.
    """
    if type(dtype) is not Record or dtype.name.pair != DTYPE or not dtype.args or type(dtype.args[0]) is not str:
        raise MalformedError(f"an array of {_describe(dtype)}")
    code, state = dtype.args[0], dtype.state
    if code.startswith("O"):
        return "O"
    order = state[1] if type(state) is tuple and len(state) > 1 and state[1] in ("<", ">", "|", "=") else "<"
    kind, digits = code[:1], code[1:]
    if kind not in set("biufSU") or not digits.isdecimal() or len(digits) > 6:  # noqa: PLR2004
        raise RefusedError(f"an array of dtype {code[:40]!r}")
    return f"{order}{kind}{int(digits) * (4 if kind == 'U' else 1)}"


def _make_builtin(name: Name, args: tuple[Any, ...]) -> Any:
    makers: dict[str, type] = {"set": set, "frozenset": frozenset, "list": list, "tuple": tuple}
    plain = not args or (len(args) == 1 and type(args[0]) in (list, tuple, set, frozenset))
    if name.name in makers and plain:
        return makers[name.name](*args)
    if name.name == "bytearray" and (not args or (len(args) == 1 and type(args[0]) is bytes)):
        return bytes(*args)
    return Record(name, args)


def _encode(args: tuple[Any, ...]) -> bytes:
    """Return bytes that protocol 2 writes as text."""
    if len(args) not in (1, 2) or not all(type(a) is str for a in args) or args[1:] not in ((), ("latin1",)):
        raise RefusedError("_codecs.encode of something that is no text")
    return bytes(args[0], "latin-1")


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise RefusedError(f"items put into {_describe(value)}")
    return value


def _describe(value: Any) -> str:
    return str(value) if type(value) is Name else f"a {type(value).__name__}"
