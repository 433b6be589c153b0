"""From which probability on a class counts, in words for the descriptions inside files."""

from __future__ import annotations

from models.contract import Contract


def in_words(contract: Contract) -> str:
    """For one answer 'below 0.5 the answer is 'not sure'', and likewise for several."""
    if not contract.multi_label:
        return f"below {contract.not_sure_threshold:g} the answer is 'not sure'"
    lowest, highest = min(contract.class_thresholds), max(contract.class_thresholds)
    where = (
        f"{lowest:g}"
        if lowest == highest
        else f"its threshold, {lowest:.3g} to {highest:.3g} (output.thresholds of the contract)"
    )
    return f"a class is in the picture from {where} on; where none is, the answer is 'not sure'"
