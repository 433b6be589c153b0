"""What the Core ML runtime raises when a file is not sound."""

from __future__ import annotations

from pathlib import Path

from models.errors import UserError

_MEND = (
    "export the model again; a file from elsewhere may use parts of Core ML "
    "that this evaluator does not know"
)


class CoreMLFileError(UserError):
    """A Core ML file that is damaged, contradicts itself or says more than can be evaluated.

    Args:
        what: what was found, naming the operation, layer or file.
        why: the rule that it breaks.
        mend: what the user can do.
    """

    def __init__(self, what: str, why: str = "", mend: str = _MEND) -> None:
        super().__init__(what, why, mend)

    def within(self, path: Path) -> CoreMLFileError:
        """The same fact, naming the file that it was found in."""
        return CoreMLFileError(f"{path}: {self.what}", self.why, self.mend)
