"""Both files' answers: agreement, and the images whose answer changed."""

from __future__ import annotations

import math

import numpy as np

from exporter.diagnose.results import Flip, MarginBand, Summary
from exporter.prove.answering import Classes, Rule
from exporter.prove.compare import Comparison, Vector
from exporter.prove.imageset import NOTHING, Sample
from models.contract import Contract
from models.errors import UserError

BANDS = (0.0, 0.05, 0.1, 0.25, 0.5)  # margins of an answer, in probability


class Answers:
    """Adds up image by image; keeps the flips only."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._comparison = Comparison.of(contract)
        self._rule = Rule.of(contract)
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
        truth = sample.label(self._contract)
        self._comparison.add(sample.name, wanted, found, truth, sample.truth)
        self._labelled += sample.truth is not None
        apart = self._rule.margin(wanted)
        band = max(place for place, low in enumerate(BANDS) if apart >= low)
        self._images[band] += 1
        if not self._rule.agrees(wanted, found):
            self._flipped[band] += 1
            self._flips.append(self._flip(sample, wanted, found, truth))

    def _flip(self, sample: Sample, wanted: Vector, found: Vector, truth: str | None) -> Flip:
        before, after = self._rule.decisive(wanted, found)
        answers = self._rule.answer(wanted), self._rule.answer(found)
        several = self._contract.multi_label
        return Flip(
            image=sample.name,
            float_label=self._said(answers[0]),
            int8_label=self._said(answers[1]),
            float_probability=float(wanted[before]),
            int8_probability=float(found[after]),
            float_margin=self._rule.margin(wanted),
            int8_margin=self._rule.margin(found),
            float_logit_margin=self._logit_margin(wanted),
            int8_logit_margin=self._logit_margin(found),
            truth=truth,
            effect=_effect(sample.truth, *answers),
            decisive=self._contract.names[before] if several else None,
        )

    def _said(self, answer: Classes) -> str:
        return ", ".join(self._contract.names[place] for place in answer) or NOTHING

    def _logit_margin(self, probabilities: Vector) -> float | None:
        """First logit minus second; softmax keeps differences of logits exactly. Of several
        answers the smallest distance of a logit from its threshold's."""
        if self._rule.thresholds is None:
            second, first = (float(p) for p in np.partition(probabilities, -2)[-2:])
            return math.log(first / second) if second > 0 else None
        pairs = zip(probabilities.tolist(), self._rule.thresholds, strict=True)
        distances = [
            abs(math.log(p / (1 - p)) - math.log(limit / (1 - limit)))
            for p, limit in pairs
            if 0 < p < 1 and 0 < limit < 1
        ]
        return min(distances, default=None)

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
            several=self._contract.multi_label,
        )

    def flips(self) -> tuple[Flip, ...]:
        """The images whose answer changed, those that float was surest of first."""
        return tuple(sorted(self._flips, key=lambda flip: (-flip.float_margin, flip.image)))


def _effect(truth: Classes | None, before: Classes, after: Classes) -> str | None:
    if truth is None:
        return None
    if after == truth:
        return "gained"
    return "lost" if before == truth else "wrong either way"
