"""The blocks of a network from its input to its head, read off its module tree.

One rule for all networks: a plain `nn.Sequential` and the network itself are opened, and
so is what merely holds them; every other module with parameters is a block, be it an
inverted residual, an Inception module or a single convolution. A normalization that stands
by itself belongs to the block before it, a module without parameters (dropout, pooling) to
the block behind it. The head is the architecture's last layer with whatever has no
parameters before and behind it, and heads that exist in training only are no blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from models.zoo import Architecture

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Block:
    """Layers that are frozen and let go together.

    Attributes:
        name: module path of the first of them that has parameters.
        paths: module paths of all.
    """

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Parts:
    """A network taken apart; each parameter is in exactly one part.

    Attributes:
        blocks: from the input to the head.
        head: the last layer.
        auxiliary: module paths of heads that exist in training only.
    """

    blocks: tuple[Block, ...]
    head: Block
    auxiliary: tuple[str, ...] = ()


@dataclass(frozen=True)
class Learning:
    """Which parameters learn, and how fast.

    Attributes:
        rates: by name of a parameter, the factor on the learning rate; a parameter that is
            not named keeps its value.
        moving: module paths of the parts that are in training mode while the network is
            trained; all others answer as in use: no dropout, batch norm with the
            statistics that it has, which stay as they are. None: all of the network.
    """

    rates: Mapping[str, float] = field(default_factory=dict)
    moving: tuple[str, ...] | None = None

    def apply_mode(self, net: nn.Module) -> None:
        """Let only the parts that learn stay in training mode, of a network that is in it."""
        if self.moving is None:
            return
        net.eval()  # the network itself too: it then runs no auxiliary heads
        for path in self.moving:
            net.get_submodule(path).train()

    def freeze(self, net: nn.Module) -> None:
        """Let the parameters that do not learn need no gradient, and the others need one."""
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name in self.rates)


def parts_of(entry: Architecture, net: nn.Module) -> Parts:
    """Take a network of the zoo apart.

    Args:
        net: as `entry.create` makes it, its weights may be anywhere.
    """
    auxiliary = tuple(prefix.removesuffix(".") for prefix in entry.auxiliary_prefixes)
    blocks: list[Block] = []
    waiting: list[str] = []  # modules without parameters, for what stands behind them
    head: Block | None = None
    for path, module in _opened(net, "", (entry.head, *auxiliary)):
        if path in auxiliary:
            continue
        if path == entry.head:
            head, waiting = Block(path, (*waiting, path)), []
        elif next(module.parameters(), None) is None:
            waiting.append(path)
        elif isinstance(module, _NORMS) and blocks:
            last = blocks.pop()
            blocks.append(Block(last.name, (*last.paths, *waiting, path)))
            waiting = []
        else:
            blocks.append(Block(path, (*waiting, path)))
            waiting = []
    if head is None:
        raise TypeError(f"{entry.name} has no module {entry.head}")
    return Parts(tuple(blocks), Block(head.name, (*head.paths, *waiting)), auxiliary)


def _opened(net: nn.Module, above: str, kept: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are not opened any further, in the order of the tree.

    `kept` are never opened; whatever holds one of them always is.
    """
    for name, child in net.named_children():
        path = f"{above}.{name}" if above else name
        holds = any(each.startswith(f"{path}.") for each in kept)
        if path not in kept and (holds or type(child) is nn.Sequential):
            yield from _opened(child, path, kept)
        else:
            yield path, child


def whole(entry: Architecture, net: nn.Module, head_factor: float) -> Learning:
    """All of a network learns; its last layers `head_factor` times as fast.

    Those are the head and the last layers of heads that exist in training only.
    """
    heads = tuple(f"{path}." for path in (entry.head, *entry.auxiliary))
    return Learning(
        {name: head_factor if name.startswith(heads) else 1.0 for name, _ in net.named_parameters()}
    )


def last_blocks(parts: Parts, net: nn.Module, count: int, decay: float) -> Learning:
    """The head learns, and the last `count` blocks before it.

    Each block learns `decay` times as fast as the one behind it, the head at rate 1
    (discriminative rates: Howard and Ruder 2018, arXiv:1801.06146, section 3.1). Auxiliary
    heads take no part.

    Raises:
        ValueError: there are fewer blocks, or `count` is negative.
    """
    if not 0 <= count <= len(parts.blocks):
        raise ValueError(f"{count} of {len(parts.blocks)} blocks")
    learning = [parts.head, *parts.blocks[::-1][:count]]
    rates = {}
    for distance, block in enumerate(learning):
        for path in block.paths:
            for name, _ in net.get_submodule(path).named_parameters():
                rates[f"{path}.{name}"] = decay**distance
    return Learning(rates, tuple(path for block in learning for path in block.paths))
