"""The registry of architectures: adding one is one decorated function.

An entry says everything that the rest of the house has to know about a network:
its options and their ranges, where its head and its first convolution are, and
how its published weights were normalized. Nothing else in the project names an
architecture.

    @register(
        "lenet",
        head="head",
        stem=("conv1", None),
        options={"input_size": Option(28, 28, 512)},
    )
    def lenet(classes: int, *, input_size: int) -> nn.Module:
        from models.architectures.lenet import LeNet

        return LeNet(classes, input_size)

The network takes normalized float32 pictures `[N, 3, size, size]` (one channel where it
is `grayscale`) and gives logits `[N, classes]`. The functions stand in this folder, one
file a family; networks that torchvision lacks are written in `models.architectures`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.contract import IMAGENET_MEAN, IMAGENET_STD, Normalization
from models.errors import UserError
from models.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torch import nn

Number = int | float
IMAGENET = Normalization(IMAGENET_MEAN, IMAGENET_STD)


class ZooError(UserError):
    """An architecture or an option that the zoo does not have."""


@dataclass(frozen=True)
class Option:
    """One parameter of an architecture; a whole number where `default` is an int.

    Attributes:
        default: the value when the user says nothing.
        smallest, largest: the allowed range, both ends included.
        meaning: a few words for error messages.
        choices: the only values allowed, where not all of the range is.
    """

    default: Number
    smallest: Number
    largest: Number
    meaning: str = ""
    choices: tuple[Number, ...] = ()

    def settle(self, architecture: str, name: str, value: Any) -> Number:
        """`value` as this option's type.

        Raises:
            ZooError: not a number, not whole where it has to be, or out of range.
        """
        whole = isinstance(self.default, int)
        sound = (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (not whole or value == int(value))
        )
        allowed = (
            f"{'a whole number' if whole else 'a number'} from {self.smallest} to {self.largest}"
        )
        if self.choices:
            allowed = f"one of {', '.join(map(str, self.choices))}"
        in_range = sound and self.smallest <= value <= self.largest
        if not in_range or (self.choices and value not in self.choices):
            raise ZooError(
                f"{architecture}: {name} is {value!r}.",
                f"{self.meaning or name} is {allowed}",
                f"leave it away for {self.default}, or give "
                + ("one of those" if self.choices else "a value in that range"),
            )
        return int(value) if whole else float(value)


@dataclass(frozen=True)
class Architecture:
    """One entry of the zoo.

    Attributes:
        name: as on the command line and in checkpoints.
        function: builds the network from `classes` and every option, by keyword.
        head: the module path of the last layer, an nn.Linear or a 1x1 nn.Conv2d.
        stem: module paths of the first convolution and of the batch norm behind it,
            None where none follows.
        options: the parameters with their ranges; 'input_size' is always one.
        normalization: of the published weights.
        published: the name of torchvision's weights enum with its member, e.g.
            'MobileNet_V2_Weights.IMAGENET1K_V2'; None where nobody publishes any.
        published_options: the options without which those weights would not fit; of the
            others any value will do.
        auxiliary: module paths of the last layers of heads that exist in training only;
            in training mode the network then gives a tuple, the logits first.
        auxiliary_weight: how much the loss of each of those heads counts.
        grayscale: whether the network takes one channel, float32 `[N, 1, size, size]`.
        undrawn: whether `function` leaves some of PyTorch's default weights, so that a training
            that begins with none has to draw them, see `models.initialization`.
    """

    name: str
    function: Callable[..., nn.Module]
    head: str
    stem: tuple[str, str | None]
    options: Mapping[str, Option]
    normalization: Normalization = IMAGENET
    published: str | None = None
    published_options: Mapping[str, Number] = field(default_factory=dict)
    auxiliary: tuple[str, ...] = ()
    auxiliary_weight: float = 0.3
    grayscale: bool = False
    undrawn: bool = False

    def settle(self, options: Mapping[str, Any] | None = None) -> dict[str, Number]:
        """All options with their values, checked.

        Raises:
            ZooError: an unknown option, or a value out of range.
        """
        given = dict(options or {})
        unknown = sorted(set(given) - set(self.options))
        if unknown:
            raise ZooError(
                f"{self.name} has no option {', '.join(map(repr, unknown))}.",
                "its options are " + ", ".join(self.options),
                "remove or correct it",
            )
        return {
            name: option.settle(self.name, name, given.get(name, option.default))
            for name, option in self.options.items()
        }

    def create(self, classes: int, options: Mapping[str, Any] | None = None) -> nn.Module:
        """A freshly initialized network in training mode.

        Raises:
            ZooError: fewer than two classes, an unknown option or one out of range.
        """
        if isinstance(classes, bool) or not isinstance(classes, int) or classes < 2:
            raise ZooError(
                f"{self.name} was asked for {classes!r} class(es).",
                "a classifier tells at least two classes apart",
                "give every class a label",
            )
        import_torchvision()
        return self.function(classes, **self.settle(options))

    @property
    def weights_file(self) -> str | None:
        """The file name under which torchvision publishes the weights, None where none are.

        E.g. 'mobilenet_v2-7ebf99e0.pth'. Imports torchvision.
        """
        if self.published is None:
            return None
        enum, _, member = self.published.partition(".")
        url = getattr(import_torchvision().models, enum)[member].url
        return str(url).rpartition("/")[2]

    @property
    def auxiliary_prefixes(self) -> tuple[str, ...]:
        """How the names of parameters begin that belong to heads of the training only.

        Such a head is the module around its last layer: 'aux1.' for 'aux1.fc2'.
        """
        return tuple((path.rpartition(".")[0] or path) + "." for path in self.auxiliary)

    def tail(self, net: nn.Module) -> nn.Module:
        """The layers of `net` from the head on, as one module that shares their parameters.

        It takes what the head takes (a forward pre-hook on the head sees it) and gives
        the logits `[N, classes]` of `net` in eval mode. For most this is the head alone;
        where more layers stand behind it (SqueezeNet), they stand in the same
        `nn.Sequential`, and a convolution's logits are flattened.
        """
        from torch import nn

        parent_path, _, leaf = self.head.rpartition(".")
        parent = net.get_submodule(parent_path)
        layers = [net.get_submodule(self.head)]
        if isinstance(parent, nn.Sequential):
            children = list(parent.named_children())
            first = [name for name, _ in children].index(leaf)
            layers = [layer for _, layer in children[first:]]
        if isinstance(layers[0], nn.Conv2d):
            layers.append(nn.Flatten(1))
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def replace_head(self, net: nn.Module, classes: int) -> nn.Module:
        """Put a fresh last layer for `classes` classes into `net`; returns `net`.

        Its weights are drawn from N(0, 0.01) and its bias is zero, so that the first
        predictions are nearly uniform and the first gradients do not tear the
        features apart.
        """
        for path in (self.head, *self.auxiliary):
            self._replace_layer(net, path, classes)
        return net

    def _replace_layer(self, net: nn.Module, path: str, classes: int) -> None:
        import torch

        parent_path, _, leaf = path.rpartition(".")
        old = net.get_submodule(path)
        new: nn.Module
        if isinstance(old, torch.nn.Linear):
            new = torch.nn.Linear(old.in_features, classes)
        elif isinstance(old, torch.nn.Conv2d) and old.kernel_size == (1, 1):
            new = torch.nn.Conv2d(old.in_channels, classes, kernel_size=1)
        else:
            raise TypeError(f"the head {path} of {self.name} is a {type(old).__name__}")
        torch.nn.init.normal_(new.weight, 0.0, 0.01)
        if new.bias is not None:
            torch.nn.init.zeros_(new.bias)
        setattr(net.get_submodule(parent_path), leaf, new)


_ENTRIES: dict[str, Architecture] = {}


def register(
    name: str,
    *,
    head: str,
    stem: tuple[str, str | None],
    options: Mapping[str, Option],
    normalization: Normalization = IMAGENET,
    published: str | None = None,
    published_options: Mapping[str, Number] | None = None,
    auxiliary: tuple[str, ...] = (),
    auxiliary_weight: float = 0.3,
    grayscale: bool = False,
    undrawn: bool = False,
) -> Callable[[Callable[..., nn.Module]], Callable[..., nn.Module]]:
    """Enter an architecture; see `Architecture` for the arguments.

    Raises:
        ValueError: the name is taken, 'input_size' is no option, or the function's
            keywords are not exactly the options.
    """

    def enter(function: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        if name in _ENTRIES:
            raise ValueError(f"the architecture {name!r} is registered twice")
        if "input_size" not in options:
            raise ValueError(f"the architecture {name!r} has no option 'input_size'")
        parameters = inspect.signature(function).parameters.values()
        keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        if keywords != set(options):
            raise ValueError(
                f"{name!r} takes the keywords {sorted(keywords)}, its options are {sorted(options)}"
            )
        _ENTRIES[name] = Architecture(
            name=name,
            function=function,
            head=head,
            stem=stem,
            options=dict(options),
            normalization=normalization,
            published=published,
            published_options=dict(published_options or {}),
            auxiliary=auxiliary,
            auxiliary_weight=auxiliary_weight,
            grayscale=grayscale,
            undrawn=undrawn,
        )
        return function

    return enter


def names() -> tuple[str, ...]:
    """The architectures, sorted by name."""
    return tuple(sorted(_ENTRIES))


def get(name: str) -> Architecture:
    """The entry of an architecture.

    Raises:
        ZooError: there is none of that name.
    """
    if name not in _ENTRIES:
        raise ZooError(
            f"Unknown architecture: {name}.",
            "the architectures are " + ", ".join(names()),
            "name one of them, or bring the model as an ONNX file",
        )
    return _ENTRIES[name]


def create(name: str, classes: int, **options: Number) -> nn.Module:
    """A freshly initialized network: float32 `[N, 3, size, size]` to logits `[N, classes]`.

    Raises:
        ZooError: unknown architecture or option, or a value out of range.
    """
    return get(name).create(classes, options)


def input_size_option(default: int, smallest: int = 32, largest: int = 1024) -> Option:
    """The option that every architecture has."""
    return Option(default, smallest, largest, "the side of the input square in pixels")


WIDTH_MULT = Option(1.0, 0.1, 2.0, "the width multiplier (scales every layer's channels)")
