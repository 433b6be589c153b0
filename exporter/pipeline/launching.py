"""Several processes of one command on this machine, by way of torch's own launcher."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from uuid import uuid4

from models.training.processes import started_by_torchrun
from models.training.ranges import TrainingError

_INTERRUPTED = 130


def wanted(devices: int, nodes: int) -> bool:
    """Whether this process has to start others.

    Raises:
        TrainingError: there are to be several machines: each has to be told by torchrun.
    """
    if started_by_torchrun() or devices * nodes == 1:
        return False
    if nodes > 1:
        raise TrainingError(
            f"--nodes {nodes}: the other machines cannot be started from here.",
            "torchrun, which comes with torch, is called on each of them",
            f"torchrun --nnodes {nodes} --nproc-per-node {devices} --rdzv-backend c10d "
            "--rdzv-endpoint HOST:29400 --no-python exporter train ..., the same on all machines; "
            "HOST is one of them",
        )
    return True


def launch(devices: int, arguments: Sequence[str]) -> int:
    """Run `exporter ARGUMENTS` in so many processes, as torchrun would; its exit code.

    They meet at a port that is free. When one fails, the others are ended; Ctrl-C reaches all.

    Raises:
        MissingExtraError: torch is not installed.
    """
    from models.errors import MissingExtraError

    try:
        from torch.distributed.elastic.multiprocessing import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    except ImportError as error:
        raise MissingExtraError("torch", "train", "Training") from error

    share = max(1, (os.cpu_count() or 1) // devices)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))  # else each takes all cores, or one
    logging.disable(logging.CRITICAL)  # what went wrong is said by the processes themselves
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=devices, run_id=uuid4().hex, max_restarts=0,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)("-m", "exporter.cli", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 1
    except (SignalException, KeyboardInterrupt):
        return _INTERRUPTED
    finally:
        logging.disable(logging.NOTSET)
    return 0
