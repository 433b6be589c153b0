"""Last layers whose rows have one length, as LDAM wants them, that are plain ones when stored.

The margins of LDAM are distances in the space of the features. They say nothing as long as a
class can have a longer row of weights than another, and frequent classes do get longer ones.
Cao et al. 2019 (arXiv:1906.07413, section 3.2) therefore divide each row by its length, and the
features of each image by theirs. The second cannot be done in a dense layer, and it changes no
answer, so here features are divided by their mean length, one number that is measured once:

    logits = scale * rows / |rows| * features / mean |features| + bias

which is a dense layer with other weights. Those are what is stored; while it trains, the layer
holds the rows as the optimizer left them, at any length.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_EVEN = 1e-3  # rows that differ less in length are even already


class EvenRows:
    """Gives the last layers of a network even rows for as long as it is trained.

    The length that all rows get is known after the first forward pass; in several processes
    it is the mean of theirs. Rows that are even already, since they come from such a training,
    keep their length.

    Args:
        net: the network; its layers stay where they are, and so do their parameters.
        paths: its last layers, `nn.Linear` or `nn.Conv2d`.
        scale: logits over scores, see `models.losses.LDAM`.
    """

    def __init__(self, net: nn.Module, paths: Iterable[str], scale: float) -> None:
        self._layers: dict[str, Any] = {path: net.get_submodule(path) for path in paths}
        self._lengths: dict[str, float] = {}
        self._scale = scale
        self._handles: list[Any] = []
        for path, layer in self._layers.items():
            _refuse_others(path, layer)
            lengths = _lengths(layer.weight.detach())
            if float(lengths.max() - lengths.min()) < _EVEN * float(lengths.max()):
                self._lengths[path] = float(lengths.mean())
            self._handles.append(layer.register_forward_hook(self._answer(path)))

    def state_dict(self) -> dict[str, float]:
        """The lengths that are known, by path; a resumed run needs them."""
        return dict(self._lengths)

    def load_state_dict(self, lengths: Mapping[str, float]) -> None:
        self._lengths.clear()
        self._lengths.update(lengths)

    def __deepcopy__(self, memo: dict[int, Any]) -> EvenRows:
        """For a copy of the network, as an average of weights is kept in: the same lengths.

        Its layers answer with these rows too, since copies of modules keep their hooks.
        """
        twin = object.__new__(EvenRows)
        twin._layers = copy.deepcopy(self._layers, memo)
        twin._lengths, twin._scale, twin._handles = self._lengths, self._scale, []
        return twin

    def plain(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state_dict of the network as that of plain layers which answer the same.

        Args:
            state: of the very network or of one like it, an average of weights for example.
        """
        made = dict(state)
        for path, length in self._lengths.items():
            name = f"{path}.weight" if path else "weight"
            made[name] = _evened(state[name].detach(), length)
        return made

    def finish(self) -> None:
        """Store the even rows in the layers and leave them alone from now on."""
        for handle in self._handles:
            handle.remove()
        with torch.no_grad():
            for path, length in self._lengths.items():
                weight = self._layers[path].weight
                weight.copy_(_evened(weight, length))

    def _answer(self, path: str) -> Any:
        def answer(layer: Any, given: tuple[Tensor, ...], unused: Tensor) -> Tensor:
            (features,) = given
            if path not in self._lengths:
                self._lengths[path] = self._scale / _mean_length(features.detach())
            weight = _evened(layer.weight, self._lengths[path])
            if isinstance(layer, nn.Linear):
                return functional.linear(features, weight, layer.bias)
            return layer._conv_forward(features, weight, layer.bias)

        return answer


def _refuse_others(path: str, layer: nn.Module) -> None:
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise TypeError(f"{path} is a {type(layer).__name__}: no dense layer and no convolution")


def _lengths(weight: Tensor) -> Tensor:
    """Euclidean length of each row, `[rows]`."""
    return weight.flatten(1).norm(dim=1)


def _evened(weight: Tensor, length: float) -> Tensor:
    return length * functional.normalize(weight.flatten(1), dim=1).reshape(weight.shape)


def _mean_length(features: Tensor) -> float:
    """Mean Euclidean length of feature vectors along axis 1, over all processes."""
    mean = features.float().norm(dim=1).mean()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return max(float(mean), 1e-6)
