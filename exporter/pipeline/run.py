"""`exporter export`: the stages in order, each run only when its inputs changed."""

from __future__ import annotations

import dataclasses
import errno
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from exporter.pipeline.assembly import Outcome, assemble
from exporter.pipeline.job import Job, checked
from exporter.pipeline.request import ExportRequest, Progress
from exporter.pipeline.stages import QUANTIZED, Stages, heavy_pool
from models.errors import UserError


@dataclass(frozen=True)
class Planned:
    """One stage of a dry run.

    Attributes:
        cached: whether the cache holds it already.
        left_out: why it will not be made, or ''.
    """

    stage: str
    cached: bool
    left_out: str = ""


def plan(request: ExportRequest) -> list[Planned]:
    """What `export` would do: every check, no work, nothing written."""
    with checked(request) as job:
        stages = [Planned("onnx", job.cache.has(job.onnx_key))]
        if job.pixels_key is not None:
            stages.insert(0, Planned("decode", job.cache.has(job.pixels_key)))
        if job.quantized_key is not None:
            stages.append(Planned(QUANTIZED, job.cache.has(job.quantized_key)))
        stages += [
            Planned(row.key, job.cache.has(job.artifact_key(row)))
            for row in job.chosen.formats
            if row.key != "onnx"
        ]
        stages += [Planned(key, False, reason) for key, reason in job.chosen.left_out]
        stages += [Planned("prove", False), Planned("report", False)]
    return stages


def export(request: ExportRequest, progress: Progress) -> Outcome:
    """Make the bundle and prove it.

    A bundle whose gates fail is written to `<out>.failed` and what was at `out`
    stays as it is.

    Raises:
        UserError: anything that the user can mend; nothing has been written then.
    """
    started = time.perf_counter()
    progress.start("check")
    try:
        with checked(request) as job:
            with heavy_pool(job) as pool:  # gone before the proof, with the memory that it holds
                progress.done(_what_came_in(job))
                stages = Stages(job, pool, progress)
                images = stages.run()
            outcome = assemble(job, stages, images, progress)
            job.cache.prune()
    except OSError as error:
        raise _disk_error(error, request) from error
    except BrokenProcessPool as error:
        raise UserError(
            "The process that writes Core ML and TensorFlow files was killed.",
            "the system does that when memory runs out",
            "close other programs, or leave formats out with --formats",
        ) from error
    return dataclasses.replace(outcome, total_seconds=time.perf_counter() - started)


def _disk_error(error: OSError, request: ExportRequest) -> BaseException:
    where = error.filename or request.out
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return UserError(
            f"The disk is full while writing {where}.",
            "an export needs about ten times the size of the model for a while",
            f"free some space or choose another --out; {request.out} is as it was",
        )
    if error.errno is not None:
        return UserError(
            f"{where} cannot be read or written.",
            error.strerror or str(error),
            "check that path and its folder, or choose another --out or --cache",
        )
    return error


def _what_came_in(job: Job) -> str:
    contract = job.intake.contract
    rule = contract.preprocessing
    return (
        f"{contract.architecture}, {len(contract.labels)} classes, "
        f"{rule.width} x {rule.height} pixels"
    )
