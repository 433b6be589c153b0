"""What can be wrong with a finished file, and the checks that every runtime shares."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from models.contract import Contract
from models.errors import UserError


class ArtifactError(UserError):
    """A finished file that is missing, damaged, or not what the contract says."""


def damaged(path: Path, runtime: str, error: BaseException) -> ArtifactError:
    """The error for a file that its own runtime refuses."""
    reason = " ".join(str(error).split())
    return ArtifactError(
        f"{path} cannot be opened by {runtime}.",
        f"{reason[:300] or type(error).__name__} (damaged, cut short, or another kind of file)",
        "export the model again",
    )


def require_file(path: Path) -> None:
    """Raise ArtifactError where there is neither a file nor a folder, or an empty file."""
    if not path.exists():
        raise ArtifactError(f"{path} does not exist.", "", "export the model again")
    if path.is_file() and path.stat().st_size == 0:
        raise ArtifactError(f"{path} is empty.", "it has no bytes", "export the model again")


def require_interface(
    path: Path,
    contract: Contract,
    given: tuple[str, Sequence[object]],
    made: tuple[str, Sequence[object]],
) -> None:
    """Hold a file's input and output against the contract.

    Args:
        given, made: (dtype name, shape) of the file's one input and one output.

    Raises:
        ArtifactError: they are not uint8 `[1, H, W, 3]` and float32 `[1, classes]`.
    """
    rule = contract.preprocessing
    wanted = (
        ("input", given, "uint8", [1, rule.height, rule.width, 3]),
        ("output", made, "float32", [1, len(contract.labels)]),
    )
    for what, (dtype, shape), right_dtype, right_shape in wanted:
        if dtype != right_dtype or list(shape) != right_shape:
            raise ArtifactError(
                f"The {what} of {path} is {dtype} {list(shape)}.",
                f"the contract says {right_dtype} {right_shape}",
                "export the model again; if you changed contract.json, change it back",
            )


def not_installed(package: str, extra: str | None) -> str | None:
    """Why a runtime cannot be used: its package is not here. None if it is.

    It looks for the package without importing it.
    """
    try:
        if importlib.util.find_spec(package) is not None:
            return None
    except (ImportError, ValueError):  # a parent package is missing or broken
        pass
    wanted = "exporter" if extra is None else f"exporter[{extra}]"
    return f"{package} is not installed (pip install '{wanted}')"
