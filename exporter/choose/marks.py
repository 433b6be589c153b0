"""Signs that say, without colour, how a candidate stands."""

from __future__ import annotations

from exporter.choose.decide import Decision
from exporter.choose.results import Outcome

TAKEN, FRONT, EQUAL, OVER, GATE = "►", "●", "≈", "×", "!"
LEGEND = {
    TAKEN: "take it",
    FRONT: "on the Pareto front of accuracy and latency",
    EQUAL: "as accurate as the best, within noise",
    OVER: "over the budget",
    GATE: "failed its parity gate",
}


def marks(decision: Decision, outcome: Outcome) -> str:
    """Signs of `LEGEND`; '' where a candidate has no file that it could ship."""
    judged = decision.of(outcome)
    if judged is None:
        return ""
    found = TAKEN if judged is decision.taken else ""
    if judged in decision.front:
        found += FRONT
    if judged in decision.equals and len(decision.equals) > 1:
        found += EQUAL
    return found + (OVER if not judged.fits else "")
