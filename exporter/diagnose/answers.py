"""Both files' answers: agreement, and the images whose first answer changed."""

from __future__ import annotations

import math

import numpy as np

from exporter.diagnose.results import Flip, MarginBand, Summary
from exporter.prove.compare import Comparison, Vector, agrees, margin, top1
from exporter.prove.imageset import Sample
from models.contract import Contract
from models.errors import UserError

BANDS = (0.0, 0.05, 0.1, 0.25, 0.5)  # margins of a first answer, in probability


class Answers:
    """Adds up image by image; keeps the flips only."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._comparison = Comparison(contract.activation)
        self._flips: list[Flip] = []
        self._images = [0] * len(BANDS)
        self._flipped = [0] * len(BANDS)
        self._labelled = 0

    def add(self, sample: Sample, wanted: Vector, found: Vector) -> None:
        """Take one image's probabilities, of the float file and of the int8 file."""
        if not np.isfinite(wanted).all():
            raise UserError(
                f"The float file gives no finite probabilities for {sample.name}.",
                "there is nothing to compare with",
                "run 'exporter parity' on the bundle first",
            )
        truth = None if sample.truth is None else self._contract.names[sample.truth]
        self._comparison.add(sample.name, wanted, found, truth, sample.truth)
        self._labelled += sample.truth is not None
        apart = margin(wanted)
        band = max(place for place, low in enumerate(BANDS) if apart >= low)
        self._images[band] += 1
        if not agrees(wanted, found):
            self._flipped[band] += 1
            self._flips.append(self._flip(sample, wanted, found, truth))

    def _flip(self, sample: Sample, wanted: Vector, found: Vector, truth: str | None) -> Flip:
        before, after = top1(wanted), top1(found)
        return Flip(
            image=sample.name,
            float_label=self._contract.names[before],
            int8_label=self._contract.names[after],
            float_probability=float(wanted[before]),
            int8_probability=float(found[after]),
            float_margin=margin(wanted),
            int8_margin=margin(found),
            float_logit_margin=self._logit_margin(wanted),
            int8_logit_margin=self._logit_margin(found),
            truth=truth,
            effect=_effect(sample.truth, before, after),
        )

    def _logit_margin(self, probabilities: Vector) -> float | None:
        """First logit minus second; softmax keeps differences of logits exactly."""
        second, first = (float(p) for p in np.partition(probabilities, -2)[-2:])
        if self._contract.activation == "softmax":
            return math.log(first / second) if second > 0 else None
        if second <= 0 or first >= 1:
            return None
        return math.log(first / (1 - first)) - math.log(second / (1 - second))

    def summary(self) -> Summary:
        found = self._comparison.metrics()
        tops = [*BANDS[1:], 1.0]
        return Summary(
            images=found.images,
            agreement=found.top1_agreement,
            flips=len(self._flips),
            logit_sqnr_db=found.logit_sqnr_db,
            mean_logit_error=found.mean_logit_difference,
            max_probability_difference=found.max_probability_difference,
            labelled=self._labelled,
            accuracy=found.accuracy,
            float_accuracy=found.reference_accuracy,
            bands=tuple(map(MarginBand, BANDS, tops, self._images, self._flipped)),
        )

    def flips(self) -> tuple[Flip, ...]:
        """The images whose first answer changed, those that float was surest of first."""
        return tuple(sorted(self._flips, key=lambda flip: (-flip.float_margin, flip.image)))


def _effect(truth: int | None, before: int, after: int) -> str | None:
    if truth is None:
        return None
    if after == truth:
        return "gained"
    return "lost" if before == truth else "wrong either way"
