"""The one class for mistakes that a user can mend.

It is raised where the fact is known and printed by the command line without a
traceback; everything else that escapes is a defect of ours.
"""

from __future__ import annotations


class UserError(Exception):
    """Something in the user's files, flags or machine has to change.

    Args:
        what: what happened, in one sentence, naming the file or flag.
        why: the fact that makes it impossible to go on.
        mend: what the user can do about it.
    """

    exit_code = 2

    def __init__(self, what: str, why: str = "", mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.mend = mend

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"Why: {self.why}")
        if self.mend:
            parts.append(f"To mend it: {self.mend}")
        return "\n".join(parts)


class MissingExtraError(UserError):
    """A command needs a package that the core installation leaves out.

    Args:
        package: the import name that is missing.
        extra: the extra of this distribution that brings it.
        purpose: what the package was wanted for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed.",
            "the core installation leaves out what its users may not need",
            f"pip install 'exporter[{extra}]'",
        )
        self.extra = extra
