"""Networks of the zoo that decide: random weights, calibrated, with a head fitted to drawings.

    checkpoint = decided_checkpoint("resnet18", input_size=64)
    pictures, truth = drawings(40, 64, seed=1)

A freshly initialized network gives nearly the same answer for every image, so a test on
it passes whatever is broken. Here the weights stay random, but

- every convolution and dense layer without a batch norm behind it is scaled, a channel at
  a time, to results of a drawn mean and spread on drawings (Salimans and Kingma 2016,
  arXiv:1602.07868, section 3, with a mean and spread that differ from channel to channel
  as in trained networks), and batch norms get the statistics of those drawings;
- the last batch norm of a residual branch is weakened, so that sums do not grow;
- the head is the ridge regression of the drawings' classes on the features before it, and
  is scaled so that the logits spread as a trained network's do.

On drawings that it has not seen such a network is right far more often than by chance, and
its answers move when its weights do. The same arguments give the same weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models import zoo
from models.checkpoint import Checkpoint
from models.contract import LUMA, Contract, Label, Preprocessing
from support.nets import one_thread

if TYPE_CHECKING:
    import torch
    from torch import nn

Pixels = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
SMALL = 64  # the side of the input square unless told otherwise, or the smallest allowed
_CALIBRATED_ON, _FITTED_ON = 32, 24  # drawings in all; a class
_JITTER = 40.0  # of a colour from picture to picture, in steps of 255
_CLEAR_JITTER = 8.0  # the same where classes are to be told apart clearly
_SPREAD = 2.0  # of the logits, standard deviation over images and classes
_LIFT = 0.8  # the mean over channels of what goes into an activation: most of it passes
_RIDGE = 1.0  # of the mean variance that the features have on an image
_CENTRE = 5.0  # of a depthwise kernel, in deviations: what a channel knows goes on
_OPEN = 2.0  # by how many deviations logits behind a ReLU are lifted, so that it lets most pass


def _waves(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(np.sin(2 * np.pi * y))


def _columns(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(np.sin(2 * np.pi * x))


def _checks(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(3 * np.sin(2 * np.pi * x) * np.sin(2 * np.pi * y))


def _dots(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(3 * (np.cos(2 * np.pi * x) + np.cos(2 * np.pi * y) - 1.0))


def _rings(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(np.sin(2 * np.pi * np.hypot(x, y)))


def _diagonals(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(2 * np.sin(2 * np.pi * (x + y) / np.sqrt(2)))


def _plain(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(0.3 * (x - y))


def _half(x: Doubles, y: Doubles) -> Doubles:
    return np.asarray(8.0 * (x + 0.5 * y))


KINDS: tuple[tuple[str, Callable[[Doubles, Doubles], Doubles]], ...] = (
    ("rows", _waves), ("columns", _columns), ("checks", _checks), ("dots", _dots),
    ("rings", _rings), ("diagonals", _diagonals), ("plain", _plain), ("halves", _half),
)  # fmt: skip


def drawing(kind: int, seed: int, size: int = SMALL, clear: bool = False) -> Pixels:
    """One picture of a class, uint8 `[size, size, 3]`: a pattern in two colours.

    Place, scale, noise and, to a degree, the colours vary: a random network keeps little
    but colours up to its last layer.

    Args:
        kind: 0 to 7 are `KINDS`; from 8 on the same patterns, finer each time round.
        clear: whether the colours of a class hardly vary.
    """
    jitter = _CLEAR_JITTER if clear else _JITTER
    rng = np.random.default_rng((kind, seed))
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size - 0.5
    finer = 1.0 + kind // len(KINDS)
    scale = rng.uniform(2.5, 4.0) * finer
    x, y = scale * (x + rng.uniform(-0.3, 0.3)), scale * (y + rng.uniform(-0.3, 0.3))
    share = 0.5 + 0.5 * np.tanh(1.5 * KINDS[kind % len(KINDS)][1](x, y))[..., None]
    one, other = _colours(kind) + rng.uniform(-jitter, jitter, (2, 3))
    picture = share * one + (1 - share) * other
    picture += rng.normal(0, rng.uniform(2, 6), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _colours(kind: int) -> Doubles:
    """The two colours of a class, `[2, 3]`."""
    return np.random.default_rng((kind, 5)).uniform(30, 225, (2, 3))


def drawings(
    count: int, size: int = SMALL, seed: int = 0, classes: int = len(KINDS), clear: bool = False
) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """`count` pictures, uint8 `[count, size, size, 3]`, and their classes, in turn."""
    truth = np.arange(count, dtype=np.int64) % classes
    made = [drawing(int(kind), 10_000 * seed + i, size, clear) for i, kind in enumerate(truth)]
    return np.stack(made), truth


def decided_checkpoint(
    name: str, classes: int = len(KINDS), seed: int = 0, **options: int | float
) -> Checkpoint:
    """A network of the zoo that tells `drawings` apart, with its contract.

    Seconds at small sizes; nearly all of it are some 200 images through the network.

    Args:
        name: any entry of the registry.
        classes: of the drawings, labelled by their pattern.
        seed: of the weights.
        options: of the architecture; `input_size` is 64 or the smallest that is allowed.

    Raises:
        ZooError: unknown architecture or option, or a value out of range.
    """
    entry = zoo.get(name)
    net, contract = decided(entry, classes, seed, **options)
    size = contract.preprocessing.height
    settled = entry.settle({**options, "input_size": size})
    return Checkpoint(name, settled, net.state_dict(), contract)


def decided(
    entry: zoo.Architecture,
    classes: int = len(KINDS),
    seed: int = 0,
    clear: bool = False,
    **options: int | float,
) -> tuple[nn.Module, Contract]:
    """`decided_checkpoint` of an entry that need not be in the registry: the network in eval
    mode and its contract.

    Args:
        clear: fitted to drawings of clear classes, with depthwise kernels that let pass what
            they see: margins as of a trained network, which gates on answers ask for.
    """
    import torch

    size = entry.options["input_size"]
    options.setdefault("input_size", int(min(max(SMALL, size.smallest), size.largest)))
    settled = entry.settle(options)
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(zlib.crc32(entry.name.encode()) + seed)
        net = entry.create(classes, settled).eval()
        _roughen(net, clear)
        given, _ = drawings(_CALIBRATED_ON, int(settled["input_size"]), 91, classes, clear)
        _calibrate(net, entry, normalized(entry, given))
        _fit_head(net, entry, int(settled["input_size"]), classes, clear)
    return net, _contract(entry, settled, classes)


def normalized(entry: zoo.Architecture, pixels: Pixels) -> torch.Tensor:
    """Pixels `[N, H, W, 3]` as the network takes them: float32 `[N, 3 or 1, H, W]`."""
    import torch

    rule = entry.normalization
    values = (pixels.astype(np.float32) - np.float32(rule.mean)) / np.float32(rule.std)
    if entry.grayscale:
        values = values @ np.float32(LUMA)[:, None]
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32))


def _contract(entry: zoo.Architecture, options: Any, classes: int) -> Contract:
    size = int(options["input_size"])
    rule = Preprocessing(size, size, size + size // 8, normalization=entry.normalization)
    rule = replace(rule, grayscale=entry.grayscale)
    rounds = [f" {i // len(KINDS) + 1}" if i >= len(KINDS) else "" for i in range(classes)]
    labels = tuple(Label(KINDS[i % len(KINDS)][0] + rounds[i]) for i in range(classes))
    return Contract(labels, rule, name=f"decided {entry.name}", architecture=entry.name)


def _roughen(net: nn.Module, clear: bool) -> None:
    """Batch norms whose channels differ, as those of trained networks do."""
    import torch

    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.6, 1.4)
            torch.nn.init.normal_(module.bias, _LIFT, 0.3)
    for module in net.modules():
        if not clear or not isinstance(module, torch.nn.Conv2d):
            continue
        if module.groups == module.in_channels > 1:
            centre = module.kernel_size[0] // 2, module.kernel_size[1] // 2
            module.weight.data[:, :, centre[0], centre[1]] += _CENTRE * module.weight.std()
    for module in net.modules():
        last = _end_of_branch(module)
        if last is not None:
            torch.nn.init.uniform_(last.weight, 0.1, 0.4)


def _end_of_branch(module: nn.Module) -> nn.BatchNorm2d | None:
    """The batch norm whose result is added to a shortcut; None where there is no such sum."""
    import torch
    from torchvision.models.resnet import BasicBlock, Bottleneck

    if isinstance(module, Bottleneck):
        return module.bn3
    if isinstance(module, BasicBlock):
        return module.bn2
    if getattr(module, "use_res_connect", False):  # MobileNets and EfficientNets
        norms = [one for one in module.modules() if isinstance(one, torch.nn.BatchNorm2d)]
        return norms[-1]
    return None


def _calibrate(net: nn.Module, entry: zoo.Architecture, given: torch.Tensor) -> None:
    """One pass that sets the statistics of batch norms and scales the layers without one."""
    import torch

    layers = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    free = set(layers) - _normed(net, layers, norms, given[:2]) - {net.get_submodule(entry.head)}
    hooks = [layer.register_forward_hook(_rescale) for layer in layers if layer in free]
    for norm in norms:
        norm.momentum = None  # the plain mean over all batches, here one
        norm.train()
    with torch.no_grad():
        net(given)
    for norm in norms:
        norm.eval()
    for hook in hooks:
        hook.remove()


def _normed(net: nn.Module, layers: Any, norms: Any, given: torch.Tensor) -> set[nn.Module]:
    """The layers whose results go straight into a batch norm."""
    import torch

    makers: dict[int, nn.Module] = {}
    kept: list[torch.Tensor] = []  # alive, so that no address is used twice
    found: set[nn.Module] = set()

    def made(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        makers[id(output)] = module
        kept.append(output)

    def read(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        maker = makers.get(id(inputs[0]))
        if maker is not None:
            found.add(maker)

    hooks = [layer.register_forward_hook(made) for layer in layers]
    hooks += [norm.register_forward_pre_hook(read) for norm in norms]
    with torch.no_grad():
        net(given)
    for hook in hooks:
        hook.remove()
    return found


def _rescale(module: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
    """Give each channel of a layer's results a mean and a spread of its own."""
    import torch

    dense = isinstance(module, torch.nn.Linear)  # its channels are last, whatever stands before
    axes = tuple(range(output.ndim - 1)) if dense else (0, 2, 3)
    shape = (-1,) if dense else (1, -1, 1, 1)
    spread, mean = torch.std_mean(output, axes, correction=0)
    factor = torch.empty_like(spread).uniform_(0.6, 1.4) / spread.clamp_min(1e-4)
    wanted = torch.empty_like(mean).normal_(_LIFT, 0.3)
    module.weight.mul_(factor.reshape(-1, *(1,) * (module.weight.ndim - 1)))
    moved = wanted - mean * factor
    if module.bias is not None:
        module.bias.mul_(factor).add_(moved)
    else:
        moved = torch.zeros_like(moved)
    return output * factor.reshape(shape) + moved.reshape(shape)


def _fit_head(
    net: nn.Module, entry: zoo.Architecture, size: int, classes: int, clear: bool
) -> None:
    """Ridge regression of the classes on what the head reads, averaged over the picture."""
    import torch

    head: Any = net.get_submodule(entry.head)
    pixels, truth = drawings(_FITTED_ON * classes, size, 92, classes, clear)
    features = _inputs_of(head, net, normalized(entry, pixels))
    centre = features.mean(axis=0)
    centred = features - centre
    wanted = np.eye(classes)[truth] - 1.0 / classes
    products = centred @ centred.T
    products += _RIDGE * np.trace(products) / len(products) * np.eye(len(products))
    weight = (centred.T @ np.linalg.solve(products, wanted)).T
    weight *= _SPREAD / (centred @ weight.T).std()
    bias = -weight @ centre
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight).reshape(head.weight.shape))
        if isinstance(head, torch.nn.Conv2d):  # a ReLU may follow, as in SqueezeNet
            bias = bias + _OPEN * _SPREAD
        if head.bias is not None:
            head.bias.copy_(torch.from_numpy(bias))


def _inputs_of(head: nn.Module, net: nn.Module, given: torch.Tensor) -> Doubles:
    """What `head` reads for each image, its mean over the picture, float64 `[N, F]`."""
    import torch

    found: list[Doubles] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].double()
        found.append((values.mean(dim=(2, 3)) if values.ndim == 4 else values).numpy())

    hook = head.register_forward_pre_hook(keep)
    with torch.no_grad():
        for batch in given.split(_CALIBRATED_ON):
            net(batch)
    hook.remove()
    return np.concatenate(found)


def accuracy(checkpoint: Checkpoint, count: int = 80, seed: int = 7) -> float:
    """The share of `count` drawings, other than those of the fit, that it gets right."""
    logits, truth = logits_of(checkpoint, count, seed)
    return float((logits.argmax(axis=1) == truth).mean())


def logits_of(
    checkpoint: Checkpoint, count: int = 80, seed: int = 7
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The logits `[count, classes]` in PyTorch of drawings, and their classes."""
    import torch

    from models.checkpoint import build

    entry, size = zoo.get(checkpoint.architecture), checkpoint.contract.preprocessing.height
    pixels, truth = drawings(count, size, seed, len(checkpoint.contract.labels))
    net = build(checkpoint)
    with torch.no_grad(), one_thread():
        parts = normalized(entry, pixels).split(_CALIBRATED_ON)
        found = torch.cat([net(part) for part in parts])
    return found.numpy(), truth
