"""Work shared out to threads so that their number does not change a result.

Torch's own threads split sums, and another number of threads ends in other last bits, which
rounding to int8 makes large. Here each task runs in one thread, and results come back in the
order of the tasks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
_MOST = 8


class Workers:
    """Threads in which torch uses no threads of its own; a context manager.

    Args:
        count: how many; None for one a processor, at most 8.
    """

    def __init__(self, count: int | None = None) -> None:
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        self._count = count or min(available or os.cpu_count() or 1, _MOST)

    def __enter__(self) -> Workers:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(self._count, initializer=lambda: torch.set_num_threads(1))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._before)

    def map(self, function: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> list[_Result]:
        """Each task's result, in the order of the tasks."""
        return list(self._pool.map(function, tasks))
