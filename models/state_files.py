"""Tensors out of any weights file, without running a line of what is in it.

Understood are safetensors files and what `torch.save` writes (read with
`weights_only=True`), bare or wrapped as training scripts wrap them.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import zoo
from models.errors import MissingExtraError, UserError

if TYPE_CHECKING:
    from torch import Tensor

HEADER = "exporter"  # the metadata key that makes a weights file a checkpoint
_PREFIXES = ("module.", "model.", "_orig_mod.", "net.")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_COUNTER = "num_batches_tracked"  # files written before torch 0.4.1 lack it
_SHOWN = 4
_SAVE_AGAIN = "save it with torch.save(model.state_dict(), path), or as safetensors"


class CheckpointError(UserError):
    """A weights file that cannot be used."""


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    Attributes:
        state: tensors by name, on the CPU, floats as float32.
        header: the JSON text under `HEADER`, None in a bare state_dict.
    """

    state: dict[str, Tensor]
    header: str | None


def read(path: Path) -> WeightsFile:
    """Read a weights file of any kind that is understood here.

    Raises:
        CheckpointError: missing, truncated, not a weights file, holding Python
            objects, or holding NaN or infinite weights.
        MissingExtraError: torch or safetensors is not installed.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read.", error.strerror or str(error), "check the path"
        ) from error
    if not start:
        raise CheckpointError(f"{path} is empty.", "it has no bytes", "copy it again")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("torch", "torch", "Reading a PyTorch model") from error
    if start[8:9] == b"{":
        tensors, header = _read_safetensors(path)
    elif start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        tensors, header = _read_torch(path)
    else:
        raise CheckpointError(
            f"{path} is not a weights file.",
            "it begins neither like safetensors nor like a file of torch.save "
            "(an ONNX file is known by the ending .onnx)",
            _SAVE_AGAIN,
        )
    state = _clean(tensors)
    if not state:
        raise CheckpointError(f"{path} holds no tensors.", "there are no weights", _SAVE_AGAIN)
    _refuse_not_finite(state, path)
    return WeightsFile(state, header)


def check_match(
    state: Mapping[str, Tensor],
    architecture: str,
    classes: int,
    options: Mapping[str, zoo.Number],
    origin: object,
) -> dict[str, Tensor]:
    """The state with exactly the entries that the architecture has.

    Missing batch-norm counters are filled with zero. Heads that exist in training only are
    fresh where they are missing or of other classes: no exported file has them.

    Raises:
        CheckpointError: the head has another number of outputs than `classes`, or
            entries are missing, unexpected or of another shape; a few are named.
    """
    import torch

    entry = zoo.get(architecture)
    with torch.device("meta"):
        wanted = entry.create(classes, options).state_dict()
    state = dict(state)
    for name in wanted:
        if name.endswith(_COUNTER):
            state.setdefault(name, torch.zeros((), dtype=torch.int64))
    _refresh_auxiliary(state, wanted, entry, classes, options)
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        raise CheckpointError(
            f"{origin} does not fit {architecture}.",
            "; ".join(
                f"{len(found)} {what}: {_some(found)}"
                for what, found in (("missing", missing), ("unexpected", unexpected))
                if found
            ),
            "name the architecture that it was trained with: " + ", ".join(zoo.names()),
        )
    outputs = outputs_of(state, architecture)
    if outputs != classes:
        raise CheckpointError(
            f"{origin} has {outputs} outputs, but there are {classes} labels.",
            f"the weights {entry.head}.weight have {outputs} rows, one a class",
            "give one label for each output, in the order of training",
        )
    differing = [
        f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if state[name].shape != tensor.shape
    ]
    if differing:
        settings = ", ".join(f"{key}={value}" for key, value in entry.settle(options).items())
        raise CheckpointError(
            f"{origin} does not fit {architecture} with {settings}.",
            f"{len(differing)} of another shape: {_some(differing, '; ')}",
            "give the options that it was trained with, the width multiplier for instance",
        )
    return {name: state[name] for name in wanted}


def _refresh_auxiliary(
    state: dict[str, Tensor],
    wanted: Mapping[str, Tensor],
    entry: zoo.Architecture,
    classes: int,
    options: Mapping[str, zoo.Number],
) -> None:
    """Put fresh training-only heads into a state where not all that is wanted of them fits."""
    import torch

    places = entry.auxiliary_prefixes
    names = [name for name in wanted if name.startswith(places)]
    if all(name in state and state[name].shape == wanted[name].shape for name in names):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = entry.create(classes, options).state_dict()
    state.update({name: fresh[name] for name in names})


def outputs_of(state: Mapping[str, Tensor], architecture: str) -> int | None:
    """How many classes the head in a state has; None where it has no such head."""
    weight = state.get(zoo.get(architecture).head + ".weight")
    return int(weight.shape[0]) if weight is not None and weight.ndim else None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        import safetensors
        from safetensors import safe_open
    except ImportError as error:
        raise MissingExtraError("safetensors", "torch", f"Reading {path.name}") from error
    try:
        with safe_open(str(path), framework="pt") as stream:
            header = (stream.metadata() or {}).get(HEADER)
            # Cloned: the file may be replaced while its mapping is still in use.
            return {name: stream.get_tensor(name).clone() for name in stream.keys()}, header  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged.",
            f"safetensors says: {error} (truncated?)",
            "copy it again from where it came",
        ) from error


def _read_torch(path: Path) -> tuple[dict[str, Tensor], str | None]:
    import torch

    _refuse_torchscript(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on pickle protocols; what fails is said below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{path} holds more than weights.",
            f"it wants to run the Python code of {found.group(1)}; such files can do anything"
            if found
            else "it is a pickle, which can run any code when it is opened",
            _SAVE_AGAIN,
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(
            f"{path} is damaged.",
            f"torch.load says: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            " (truncated?)",
            "copy it again from where it came",
        ) from error
    header = content.get(HEADER) if isinstance(content, Mapping) else None
    return _unwrap(content, path), header if isinstance(header, str) else None


def _refuse_torchscript(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        held = archive.namelist()
    if any("/code/" in name for name in held) or not any(n.endswith("data.pkl") for n in held):
        what = "a TorchScript program" if any("/code/" in n for n in held) else "some other archive"
        raise CheckpointError(
            f"{path} is not a weights file.", f"it is {what}, not a state_dict", _SAVE_AGAIN
        )


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """The state_dict in what torch.load returned, out of up to two wrappers."""
    import torch

    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        if content and all(isinstance(value, torch.Tensor) for value in content.values()):
            return dict(content)
        inner = next((content[key] for key in _WRAPPERS if key in content), None)
        if inner is None:
            break
        content = inner
    raise CheckpointError(
        f"{path} holds no state_dict.",
        f"it holds a {type(content).__name__}"
        + (f" with the keys {_some(list(map(str, content)))}" if isinstance(content, dict) else ""),
        _SAVE_AGAIN,
    )


def _clean(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that DataParallel, Lightning and torch.compile put before names."""
    cleaned = dict(state)
    while prefix := next(
        (p for p in _PREFIXES if cleaned and all(name.startswith(p) for name in cleaned)), None
    ):
        cleaned = {name.removeprefix(prefix): tensor for name, tensor in cleaned.items()}
    return {
        name: tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
        for name, tensor in cleaned.items()
    }


def is_finite(values: Tensor) -> bool:
    """Whether a float tensor holds neither NaN nor infinity.

    Their sum tells at once, unless it is too large itself.
    """
    import torch

    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _refuse_not_finite(state: Mapping[str, Tensor], path: Path) -> None:
    broken = [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not is_finite(tensor)
    ]
    if broken:
        raise CheckpointError(
            f"{path} holds NaN or infinite weights.",
            f"in {len(broken)} tensor(s): {_some(broken)}",
            "the training diverged: take an earlier checkpoint, or train with a lower rate",
        )


def _some(items: list[str], between: str = ", ") -> str:
    rest = len(items) - _SHOWN
    return between.join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
