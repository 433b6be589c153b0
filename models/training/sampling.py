"""Class-balanced sampling: each class is drawn as often as any other, whatever its images."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def balanced_order(
    labels: Sequence[Sequence[int]], seed: int, count: int | None = None
) -> list[int]:
    """Which images an epoch goes through, in order.

    Class-aware sampling (Shen et al. 2016, arXiv:1512.05830, section 4): a class is drawn,
    then one of its images. Classes come in rounds, each round all of them in a new order, and
    so do the images of a class: in an epoch no class is drawn twice more than another, and no
    image of a class again before all others of it were. Images without a class are one more
    class. An image with several is drawn as one of each of them, so that classes which occur
    together come more often than those that occur alone.

    Args:
        labels: the classes of each image.
        seed: decides the order; the same labels and seed give the same order.
        count: how many are drawn; as many as there are images if None.

    Returns:
        Indices into `labels`.
    """
    generator = torch.Generator().manual_seed(seed)
    members: dict[int, list[int]] = {}
    for index, own in enumerate(labels):
        for each in set(own) or {-1}:
            members.setdefault(each, []).append(index)
    classes = sorted(members)
    waiting: dict[int, list[int]] = {each: [] for each in classes}
    drawn: list[int] = []
    wanted = len(labels) if count is None else count
    while len(drawn) < wanted:
        for place in torch.randperm(len(classes), generator=generator).tolist():
            own = classes[place]
            if not waiting[own]:
                order = torch.randperm(len(members[own]), generator=generator).tolist()
                waiting[own] = [members[own][each] for each in order]
            drawn.append(waiting[own].pop())
    return drawn[:wanted]
