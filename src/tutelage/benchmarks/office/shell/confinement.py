"""How a process gives up everything but computing and the pipes it already has.

Three walls of their own: resource limits, a filter of system calls in the kernel (Linux on x86-64
and ARM64), and an audit hook of the interpreter. None of them can be taken down again.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_RET_ALLOW = 0x7FFF0000
_RET_KILL = 0x80000000
_RET_EPERM = 0x00050001
_X32_BIT = 0x40000000

# Numbers of: read write close fstat lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask
# rt_sigreturn mremap madvise exit futex clock_gettime exit_group getrandom poll gettimeofday
# sched_yield sigaltstack clock_nanosleep.
_CALLS: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (
            *(0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 25, 28, 60, 202),
            *(228, 231, 318, 7, 96, 24, 131, 230),
        ),
    ),
    "aarch64": (
        0xC00000B7,
        (
            *(63, 64, 57, 80, 62, 222, 226, 215, 214, 134, 135, 139, 216, 233, 93, 98),
            *(113, 94, 278, 73, 169, 124, 132, 115),
        ),
    ),
}
_QUIET_EVENTS = frozenset(
    ("compile", "exec", "object.__getattr__", "sys.unraisablehook", "sys.excepthook")
)
"""What an interpreter does when it only computes; everything else it announces is refused."""


def limit_resources(memory_bytes: int, cpu_s: int) -> None:
    """Limits memory and processor time; no file can grow and hardly any can be opened."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def filter_system_calls() -> bool:
    """From now on the kernel refuses every call that opens, connects, starts or signals.

    Returns:
        Whether this kernel and machine can do it.
    """
    known = _CALLS.get(platform.machine())
    if sys.platform != "linux" or known is None:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    program = _program(*known)
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0) == 0)


def refuse_events() -> None:
    """From now on the interpreter refuses what it announces to audit hooks."""
    quiet = _QUIET_EVENTS

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in quiet:
            raise PermissionError(f"{event} is not possible in this shell")

    sys.addaudithook(hook)


def close_other_files() -> None:
    """Closes everything but the three standard streams."""
    os.closerange(3, 4096)


def _program(architecture: int, allowed: tuple[int, ...]) -> bytes:
    """A classic BPF program over ``struct seccomp_data``: number at 0, architecture at 4."""

    def instruction(code: int, yes: int, no: int, value: int) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    lines = [
        instruction(load, 0, 0, 4),
        instruction(equal, 1, 0, architecture),
        instruction(give, 0, 0, _RET_KILL),
        instruction(load, 0, 0, 0),
        instruction(at_least, 0, 1, _X32_BIT),
        instruction(give, 0, 0, _RET_EPERM),
    ]
    for place, number in enumerate(allowed):
        lines.append(instruction(equal, len(allowed) - place, 0, number))
    lines += [instruction(give, 0, 0, _RET_EPERM), instruction(give, 0, 0, _RET_ALLOW)]
    return b"".join(lines)
