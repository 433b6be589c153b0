"""Move a network from one input normalization to another by its first convolution.

A backbone trained on ImageNet-normalized pictures is made to take
`pixel / 127.5 - 1`, so that what is fine-tuned and exported needs no per-channel
constants before its first layer, and the scale of its int8 input is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from models.contract import Normalization

if TYPE_CHECKING:
    from torch import Tensor


def renormalize(
    state: Mapping[str, Tensor],
    stem: tuple[str, str | None],
    source: Normalization,
    target: Normalization,
) -> dict[str, Tensor]:
    """A state_dict whose network takes `target`-normalized pictures instead of `source` ones.

    With pixel p, the network was fed z_c = (p - m_c) / s_c and will be fed
    y_c = (p - M_c) / S_c for the channels c. Substituting p = S_c y_c + M_c:

        z_c = (S_c / s_c) y_c + (M_c - m_c) / s_c

    so the weights become w'[o, c] = w[o, c] * S_c / s_c, and each output channel o
    loses the constant d[o] = sum over c, i, j of w[o, c, i, j] * (M_c - m_c) / s_c.
    It is added to the convolution's bias where there is one, else taken from the
    running mean of the batch norm behind it.

    Inside the picture that is exact. At the zero-padded border it is not: a padded
    zero stood for the pixel m_c and now stands for M_c (grey), and the constant is
    added for the padded taps too. The outputs that touch the border therefore move
    as if the picture's frame had changed its colour from the mean to grey. In
    training mode batch norm centres by the batch, so only the border matters there.

    Args:
        state: of a network whose first convolution takes RGB; not changed.
        stem: module paths of the first convolution and of the batch norm behind it.

    Returns:
        A new state_dict; all but the stem's tensors are shared with `state`.

    Raises:
        ValueError: the convolution has neither a bias nor a batch norm behind it.
    """
    import torch

    convolution, norm = stem
    weight = state[f"{convolution}.weight"].double()
    mean, std = (torch.tensor(getattr(source, name)).double() for name in ("mean", "std"))
    new_mean, new_std = (torch.tensor(getattr(target, name)).double() for name in ("mean", "std"))
    scale, shift = new_std / std, (new_mean - mean) / std
    constant = (weight.sum(dim=(2, 3)) * shift).sum(dim=1)
    if f"{convolution}.bias" in state:
        name, moved = f"{convolution}.bias", state[f"{convolution}.bias"].double() + constant
    elif norm is not None:
        name = f"{norm}.running_mean"
        moved = state[name].double() - constant
    else:
        raise ValueError(f"{convolution} has no bias and no batch norm to take the constant")
    return {
        **state,
        f"{convolution}.weight": (weight * scale.reshape(1, 3, 1, 1)).float(),
        name: moved.float(),
    }
