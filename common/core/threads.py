"""Threads for the judge's own arithmetic: NumPy computes without the interpreter's lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

MOST_THREADS = 4
"""Each needs the memory of what it computes."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cpus() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The function of every item, in their order; computed by as many threads as there is room.

    Each has the caller's context, such as what NumPy does about numbers that are not finite.
    """
    context = copy_context()
    with ThreadPoolExecutor(min(MOST_THREADS, len(available_cpus()))) as pool:
        return list(pool.map(lambda item: context.copy().run(function, item), items))
