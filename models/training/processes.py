"""Several processes that train one network together, on one machine or on many.

torchrun starts them; each runs the very same program. What one of them has to do for all,
such as writing a file, is done by the first one while the others wait, and what goes wrong
in one of them is an error of all. A program without others finds itself first and alone,
and none of this costs it anything.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from models.errors import UserError
from models.training.ranges import TrainingError, refuse_undividable
from models.training.settings import TrainSettings

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
_PATIENCE = timedelta(days=7)  # while the first one decodes, downloads or computes features


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is.

    Attributes:
        rank: from 0, among all.
        count: of all.
        local: from 0, on this machine.
        machine_count: of those on this machine.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    machine_count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0


@dataclass
class _Here:
    place: Place = Place()
    group: Any = None  # of all processes, on the CPU, for waiting
    meeting: Any = None  # where processes find each other, with their rank and number
    meetings: int = 0


_here = _Here()


def place() -> Place:
    """Of this process; first and alone unless `connected` says else."""
    return _here.place


@contextlib.contextmanager
def connected(settings: TrainSettings) -> Iterator[Place]:
    """Find the other processes; nothing where one process is all, or where that was done.

    Raises:
        TrainingError: more or fewer processes than --devices and --nodes say, or fewer GPUs.
    """
    wanted = _expected(settings)
    if wanted.count == 1 or _here.group is not None:
        yield _here.place
        return
    import torch

    cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    if cuda:
        _refuse_few_gpus(wanted, torch.cuda.device_count())
        torch.cuda.set_device(wanted.local)
    _meet("cpu:gloo,cuda:nccl" if cuda else "gloo")
    _here.group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    _here.place = wanted
    try:
        yield wanted
    finally:
        _here.group, _here.place = None, Place()
        torch.distributed.destroy_process_group()


def _meet(backend: str) -> None:
    """Join the others, under names that no earlier meeting has used.

    torch gives every group the same names after the last one was taken down, so that a second
    training in the same processes could find the addresses that the first one left.
    """
    import torch

    if _here.meeting is None:
        _here.meeting = next(torch.distributed.rendezvous("env://"))
    store, rank, count = _here.meeting
    _here.meetings += 1
    own = torch.distributed.PrefixStore(f"training {_here.meetings}", store)
    torch.distributed.init_process_group(backend, store=own, rank=rank, world_size=count)


def started_by_torchrun() -> bool:
    """Whether torchrun started this process, perhaps with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _expected(settings: TrainSettings) -> Place:
    """Where this process stands, as torchrun says.

    Raises:
        TrainingError: that is not what the settings say.
    """
    found = Place()
    if started_by_torchrun():
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        found = Place(*(int(os.environ[name]) for name in names))
    count = settings.devices * settings.nodes
    if (found.count, found.machine_count) == (count, settings.devices):
        return found
    asked = f"--devices {settings.devices} --nodes {settings.nodes}"
    if not started_by_torchrun():
        raise TrainingError(
            f"{asked} wants {count} processes, and this is the only one.",
            "the processes are started by torchrun",
            f"torchrun --nnodes {settings.nodes} --nproc-per-node {settings.devices} ...",
        )
    raise TrainingError(
        f"torchrun started {found.count} process(es), {found.machine_count} of them on this "
        f"machine, and {asked} wants {count}.",
        "--devices is torchrun's --nproc-per-node, --nodes its --nnodes",
        "let both say the same",
    )


def _refuse_few_gpus(wanted: Place, there: int) -> None:
    if wanted.machine_count > there:
        raise TrainingError(
            f"--devices {wanted.machine_count}, and this machine has {there} GPU(s).",
            "each process needs one of its own",
            f"give --devices {there}",
        )


def alone(work: Callable[[], T]) -> T | None:
    """The first process does it while the others wait; its result there, else None.

    Raises:
        UserError: in all processes, where it is one in the first.
    """
    return _in_turns(work, lambda here: 0 if here.first else None)


def told(work: Callable[[], T]) -> T:
    """The first process does it, and its result is that of all.

    Raises:
        UserError: in all processes, where it is one in the first.
    """
    held = [alone(work)]
    if _here.place.count > 1:
        import torch

        torch.distributed.broadcast_object_list(held, src=0, group=_here.group)
    return held[0]  # type: ignore[return-value]


def in_turn(work: Callable[[], T]) -> T:
    """All do it: the first, then one on each other machine, then the rest.

    So what is computed or downloaded once, into a folder, is written by one process and found
    by the others, whether the machines share their disks or not.

    Raises:
        UserError: in all processes, where it is one in any.
    """

    def turn(here: Place) -> int:
        return 0 if here.first else 1 if here.local == 0 else 2

    return _in_turns(work, turn, 3)  # type: ignore[return-value]


def together(work: Callable[[], T]) -> T:
    """All do it at the same time.

    Raises:
        UserError: in all processes, where it is one in any.
    """
    return _in_turns(work, lambda here: 0)  # type: ignore[return-value]


def _in_turns(
    work: Callable[[], T], turn_of: Callable[[Place], int | None], turns: int = 1
) -> T | None:
    if _here.place.count == 1:
        return work()
    mine, result = turn_of(_here.place), None
    for turn in range(turns):
        error: UserError | None = None
        if turn == mine:
            try:
                result = work()
            except UserError as caught:
                error = caught
        _share(error)
    return result


def _share(error: UserError | None) -> None:
    """Wait for all; an error of one is an error of all."""
    import torch

    told = error and (error.what, error.why, error.mend, error.exit_code, socket.gethostname())
    heard: list[Any] = [None] * _here.place.count
    torch.distributed.all_gather_object(heard, told, group=_here.group)
    if error is not None:
        raise error
    for rank, each in enumerate(heard):
        if each is not None:
            what, why, mend, code, machine = each
            if rank:
                what = f"Process {rank}, on {machine}: {what}"
            other = UserError(what, why, mend)
            other.exit_code = code
            raise other


def mean(value: Tensor) -> Tensor:
    """Of all processes' values; the same in each of them."""
    if _here.place.count == 1:
        return value
    import torch

    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / _here.place.count


def share_of(batch: int) -> int:
    """How many pictures of a batch are this process's.

    Raises:
        TrainingError: the batch cannot be divided.
    """
    refuse_undividable(batch, _here.place.count)
    return batch // _here.place.count
