"""Facts of the machine that a report states beside its figures."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.threads import available_cpus


def machine_facts() -> dict[str, Any]:
    """Processor, cores, memory in bytes, load, operating system and Python."""
    return {
        "processor": _processor(),
        "cpus": len(available_cpus()),
        "memory_bytes": _memory_bytes(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def available_bytes() -> int:
    """Bytes of memory that this process can still have; of an unknown machine, more than any has.

    What the system would give back, and what a container's limit leaves (cgroup v2).
    """
    room = _memory_bytes() or sys.maxsize
    with contextlib.suppress(OSError, ValueError, IndexError):
        said = Path("/proc/meminfo").read_text(encoding="ascii")
        room = int(said.partition("MemAvailable:")[2].split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):
        limit, used = (
            int(Path("/sys/fs/cgroup", f"memory.{name}").read_text(encoding="ascii"))
            for name in ("max", "current")
        )
        room = min(room, limit - used)
    return room


def check_memory(what: object, needed: int, words: str, remedy: str) -> None:
    """Raise ParityError unless so many bytes of memory are free.

    Args:
        what: needs them.
        needed: bytes.
        words: what they are for.
        remedy: what to do.
    """
    if needed > (room := available_bytes()):
        expected = f"what fits in memory, of which {room:,} bytes are free"
        raise ParityError(what, expected, f"{words}: {needed:,} bytes", remedy)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
