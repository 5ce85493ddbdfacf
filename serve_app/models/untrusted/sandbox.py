"""Give up rights of the own process, for reading what somebody else wrote.

What the kernel offers is used and what it refuses is said: `enter` returns which protections are in
force. Only the standard library is imported here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
from dataclasses import dataclass
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446

# Calls that reading bytes and computing need, by machine. Everything else is answered with EPERM:
# opening files, sockets, new processes, signals to others.
_CALLS_X86_64: Final = (
    0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 19, 20, 24, 25, 28, 35, 39, 60, 63, 72, 96, 98, 102, 186, 201, 202,
    204, 228, 229, 230, 231, 262, 270, 271, 318, 334,
)  # fmt: skip
"""read write close fstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn readv writev
sched_yield mremap madvise nanosleep getpid exit uname fcntl gettimeofday getrusage getuid gettid time futex
sched_getaffinity clock_gettime clock_getres clock_nanosleep exit_group newfstatat pselect6 ppoll getrandom rseq"""
_CALLS_AARCH64: Final = (
    25, 57, 62, 63, 64, 65, 66, 72, 73, 79, 80, 93, 94, 98, 101, 113, 114, 115, 123, 124, 134, 135, 139, 160, 165, 169,
    172, 174, 178, 214, 215, 216, 222, 226, 233, 278, 293,
)  # fmt: skip
"""The same calls by their numbers on aarch64."""
_MACHINES: Final = {"x86_64": (0xC000003E, _CALLS_X86_64), "aarch64": (0xC00000B7, _CALLS_AARCH64)}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use.

    Attributes
    ----------
    memory_bytes : int
        Address space.
    output_bytes : int
        Size of a file that was opened for it to write into.
    cpu_s : int
        CPU time.
    wall_s : float
        Time until the parent kills it.
    """

    memory_bytes: int = 2 << 30
    output_bytes: int = 1 << 30
    cpu_s: int = 60
    wall_s: float = 120.0


def enter(limits: Limits, *, strict: bool) -> dict[str, str]:
    """Restrict this process for ever, and return what holds: protection -> ``in force`` or why not.

    Parameters
    ----------
    limits : Limits
    strict : bool
        True: no file can be opened and no other call be made than those for reading open files and
        for memory. False: files can be read (libraries are still to be loaded), none written.
    """
    found = {
        "resource limits": _limit(limits, may_start_threads=not strict),
        "no new privileges": _prctl(_PR_SET_NO_NEW_PRIVS, 1),
    }
    _prctl(_PR_SET_DUMPABLE, 0)
    found["no network (namespace)"] = _leave_network()
    found["no writing of files (landlock)"] = _forbid_writing(also_reading=strict)
    if strict:
        found["no other system calls (seccomp)"] = _filter_calls()
    return found


def _limit(limits: Limits, *, may_start_threads: bool) -> str:
    bounds = [
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ]
    refused = []
    for kind, bound in bounds:
        try:
            resource.setrlimit(kind, (bound, bound))
        except (ValueError, OSError) as exc:
            refused.append(f"{kind}: {exc}")
    if not may_start_threads:  # root is not bound by it
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return "; ".join(refused) or "in force"


def _prctl(option: int, value: int) -> str:
    return _answer(_LIBC.prctl(option, value, 0, 0, 0))


def _leave_network() -> str:
    for flags in (_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWNS, _CLONE_NEWNET):
        answer = _answer(_LIBC.unshare(flags))
        if answer == "in force":
            break
    return answer


def _forbid_writing(*, also_reading: bool) -> str:
    version = _LIBC.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return f"not offered by this kernel ({os.strerror(ctypes.get_errno())})"
    # execute 1, write 2, read 4, list 8, remove and make 0x1ff0; refer 0x2000 (v2), truncate 0x4000 (v3)
    rights = 0x1FF2 | (0x2000 if version >= 2 else 0) | (0x4000 if version >= 3 else 0)  # noqa: PLR2004
    rights |= 0x0D if also_reading else 0
    rules = ctypes.create_string_buffer(struct.pack("<Q", rights), 8)
    ruleset = _LIBC.syscall(_LANDLOCK_CREATE_RULESET, rules, ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return f"refused by the kernel ({os.strerror(ctypes.get_errno())})"
    answer = _answer(_LIBC.syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))
    os.close(ruleset)
    return answer


def _filter_calls() -> str:
    """Install a seccomp filter: a call of the list passes, every other one gets EPERM."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return f"no list of calls for {platform.machine()}"
    architecture, calls = machine
    allow, refuse, kill = 0x7FFF0000, 0x00050001, 0x80000000
    # Each instruction: code, jump if true, jump if false, operand. Words: 0 the call, 4 the architecture.
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, architecture), (0x06, 0, 0, kill), (0x20, 0, 0, 0)]
    program += [(0x15, len(calls) - at, 0, call) for at, call in enumerate(calls)]
    program += [(0x06, 0, 0, refuse), (0x06, 0, 0, allow)]
    code = b"".join(struct.pack("<HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HxxxxxxQ", len(program), ctypes.addressof(buffer))
    return _answer(_LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.create_string_buffer(header, len(header)), 0, 0))


def _answer(code: int) -> str:
    return "in force" if code == 0 else f"refused by the kernel ({os.strerror(ctypes.get_errno())})"
