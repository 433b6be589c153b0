"""A network taken apart: every parameter once, from the input to the head, over the whole zoo."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from models import zoo

torch = pytest.importorskip("torch", reason="a network is a torch module")
if importlib.util.find_spec("torchvision") is None:
    pytest.skip("needs torchvision", allow_module_level=True)

from models.training.blocks import Parts, last_blocks, parts_of, whole  # noqa: E402

COUNTS = {  # counted in the papers' tables and in torchvision's
    "alexnet": 7,  # five convolutions, two dense layers
    "efficientnet_b0": 18,  # a convolution, 16 blocks, a convolution
    "googlenet": 12,  # three convolutions, nine Inception modules
    "inception_v2": 13,  # three convolutions, ten modules
    "inception_v3": 16,  # five convolutions, eleven modules
    "lenet5": 6,  # C1, S2, C3, S4, C5, F6
    "lenet5_relu": 4,  # two convolutions, two dense layers
    "mobilenet_v1": 14,  # a convolution, 13 separable ones
    "mobilenet_v2": 19,  # a convolution, 17 inverted residuals, a convolution
    "resnet18": 9,  # the stem, eight blocks
    "resnet50": 17,
    "resnet152": 51,
    "squeezenet1_1": 9,  # a convolution, eight Fire modules
    "vgg16": 15,  # 13 convolutions, two dense layers
    "vgg16_bn": 15,  # a batch norm belongs to its convolution
}


def on_meta(name: str) -> tuple[zoo.Architecture, Any]:
    entry = zoo.get(name)
    with torch.device("meta"):
        return entry, entry.create(5)


def parameters(net: Any, paths: tuple[str, ...]) -> list[str]:
    return [
        f"{path}.{name}" for path in paths for name, _ in net.get_submodule(path).named_parameters()
    ]


def run_order(net: Any, parts: Parts, size: int, channels: int) -> list[int]:
    """The numbers of the blocks as they begin to work in evaluation; the head's is the last."""
    seen: list[int] = []

    def note(place: int) -> Any:
        return lambda *given: seen.append(place) if place not in seen else None

    for place, block in enumerate((*parts.blocks, parts.head)):
        for path in block.paths:
            if next(net.get_submodule(path).parameters(), None) is not None:
                net.get_submodule(path).register_forward_pre_hook(note(place))
    with torch.no_grad():
        net.eval()(torch.empty(1, channels, size, size, device="meta"))
    return seen


@pytest.mark.parametrize("name", zoo.names())
def test_every_network_is_blocks_in_the_order_of_the_computation(name: str) -> None:
    entry, net = on_meta(name)
    parts = parts_of(entry, net)
    assert len(parts.blocks) == COUNTS.get(name, len(parts.blocks))
    assert len(parts.blocks) >= 4
    held = [each for block in parts.blocks for each in parameters(net, block.paths)]
    held += parameters(net, parts.head.paths) + parameters(net, parts.auxiliary)
    assert sorted(held) == sorted(key for key, _ in net.named_parameters())
    assert parameters(net, parts.head.paths) == [
        key for key, _ in net.named_parameters() if key.startswith(f"{entry.head}.")
    ]
    assert all(parameters(net, block.paths) for block in parts.blocks)
    size, channels = int(entry.settle()["input_size"]), 1 if entry.grayscale else 3
    order = run_order(net, parts, size, channels)
    assert order == list(range(len(parts.blocks) + 1))


@pytest.mark.parametrize("name", zoo.names())
def test_layers_without_parameters_belong_to_what_reads_them(name: str) -> None:
    """Dropout before a frozen layer is off with it; each module is in one part at most."""
    entry, net = on_meta(name)
    parts = parts_of(entry, net)
    paths = [path for block in (*parts.blocks, parts.head) for path in block.paths]
    assert len(set(paths)) == len(paths)
    inside = {
        f"{path}.{below}".rstrip(".")
        for path in (*paths, *parts.auxiliary)
        for below, _ in net.get_submodule(path).named_modules()
    }
    leaves = {path for path, module in net.named_modules() if not list(module.children())}
    assert leaves <= inside


def test_rates_fall_from_the_head_backwards() -> None:
    entry, net = on_meta("vgg16_bn")
    learning = last_blocks(parts_of(entry, net), net, 3, 0.5)
    assert learning.rates == {
        "classifier.6.weight": 1.0, "classifier.6.bias": 1.0,
        "classifier.3.weight": 0.5, "classifier.3.bias": 0.5,
        "classifier.0.weight": 0.25, "classifier.0.bias": 0.25,
        "features.40.weight": 0.125, "features.40.bias": 0.125,
        "features.41.weight": 0.125, "features.41.bias": 0.125,
    }  # fmt: skip
    with pytest.raises(ValueError, match="16 of 15"):
        last_blocks(parts_of(entry, net), net, 16, 0.5)


def test_modes_and_gradients_follow_what_learns() -> None:
    entry, net = on_meta("vgg16_bn")
    parts = parts_of(entry, net)
    learning = last_blocks(parts, net, 3, 0.5)
    learning.freeze(net)
    learning.apply_mode(net)
    assert {name for name, p in net.named_parameters() if p.requires_grad} == set(learning.rates)
    training = {
        name for name, m in net.named_modules() if m.training and not list(m.children()) and name
    }
    # the dropouts 2 and 5 stand before dense layers that learn; max pooling 43 reads features.42
    assert training == {"features.39", "features.40", "features.41", "features.42", "features.43",
                        "avgpool", "classifier.0", "classifier.1", "classifier.2", "classifier.3",
                        "classifier.4", "classifier.5", "classifier.6"}  # fmt: skip
    whole(entry, net, 10.0).freeze(net)
    whole(entry, net, 10.0).apply_mode(net.train())
    assert all(p.requires_grad for p in net.parameters())
    assert all(module.training for module in net.modules())


def test_auxiliary_heads_rest_while_layers_are_frozen() -> None:
    entry, net = on_meta("googlenet")
    parts = parts_of(entry, net)
    assert parts.auxiliary == ("aux1", "aux2")
    learning = last_blocks(parts, net, len(parts.blocks), 1.0)
    assert not [name for name in learning.rates if name.startswith("aux")]
    learning.apply_mode(net)
    assert not net.training, "else it would give a tuple"
    assert net.inception5b.training
