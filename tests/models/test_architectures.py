"""The networks that torchvision lacks, against their papers and published counts."""

from __future__ import annotations

from typing import Any

import pytest

from models import zoo
from models.zoo import ZooError

torch = pytest.importorskip("torch")


def parameters(name: str, classes: int = 1000, **options: Any) -> int:
    """How many parameters a network has; nothing is allocated."""
    with torch.device("meta"):
        net = zoo.create(name, classes, **options)
    return sum(value.numel() for value in net.parameters())


def shake(net: Any) -> Any:
    """Give every batch norm statistics and weights that do something; returns `net.eval()`."""
    generator = torch.Generator().manual_seed(3)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for values, low, high in (
                (layer.running_mean, -0.2, 0.2),
                (layer.running_var, 0.5, 1.5),
                (layer.weight.data, 0.5, 1.5),
                (layer.bias.data, -0.2, 0.2),
            ):
                values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("alexnet", {}, 61_100_840),
        # Caffe's bvlc_alexnet
        ("alexnet_lrn", {}, 60_965_224),
        ("vgg16", {}, 138_357_544),
        ("vgg16_bn", {}, 138_365_992),
        ("inception_v3", {}, 27_161_264),
        ("resnet18", {}, 11_689_512),
        ("resnet50", {}, 25_557_032),
        ("resnet152", {}, 60_192_808),
        ("resnext50_32x4d", {}, 25_028_904),
        ("resnext101_32x8d", {}, 88_791_336),
        ("squeezenet1_0", {}, 1_248_424),
        ("squeezenet1_1", {}, 1_235_496),
        # tables 6 and 7 of the paper: 4.2, 2.6, 1.3 and 0.5 million
        ("mobilenet_v1", {}, 4_231_976),
        ("mobilenet_v1", {"width_mult": 0.75}, 2_585_560),
        ("mobilenet_v1", {"width_mult": 0.5}, 1_331_592),
        ("mobilenet_v1", {"width_mult": 0.25}, 470_072),
        ("mobilenet_v2", {}, 3_504_872),
        ("mobilenet_v3_small", {}, 2_542_856),
        ("mobilenet_v3_large", {}, 5_483_032),
    ],
)
def test_parameters_as_published(name: str, options: dict[str, Any], published: int) -> None:
    assert parameters(name, **options) == published


def test_parameters_of_googlenet_without_its_training_only_heads() -> None:
    with torch.device("meta"):
        net: Any = zoo.create("googlenet", 1000)
        net.aux1 = net.aux2 = None
    assert sum(value.numel() for value in net.parameters()) == 6_624_904


def test_parameters_of_resnext152() -> None:
    """A block of width w has w*256... weights; summed by hand from the paper's template."""

    def block(inputs: int, width: int, outputs: int) -> int:
        convolutions = inputs * width + 9 * width * (width // 32) + width * outputs
        shortcut = inputs * outputs + 2 * outputs if inputs != outputs else 0
        return convolutions + 2 * (width + width + outputs) + shortcut

    total, inputs = 3 * 64 * 49 + 2 * 64, 64
    for blocks, width in zip((3, 8, 36, 3), (128, 256, 512, 1024), strict=True):
        for _ in range(blocks):
            total += block(inputs, width, 2 * width)
            inputs = 2 * width
    assert parameters("resnext152_32x4d") == total + 2048 * 1000 + 1000
    assert zoo.get("resnext152_32x4d").published is None
    assert zoo.get("resnext152_32x4d").weights_file is None


# LeNet-5


def test_lenet5_has_the_parameters_of_the_paper() -> None:
    net: Any = zoo.create("lenet5", 10)
    counts = {
        name: sum(value.numel() for value in layer.parameters())
        for name, layer in net.named_children()
    }
    counts["c3"] = int(net.c3.mask.sum()) * 25 + 16
    # section II.B: 156, 12, 1,516, 32, 48,120 and 10,164; 60,000 altogether
    assert counts == {
        "c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164, "head": 850
    }  # fmt: skip
    assert sum(counts.values()) - counts["head"] == 60_000
    assert int(net.c3.weight.count_nonzero()) == 60 * 25, "what counts as zero is stored as zero"


def test_c3_sees_the_maps_of_table_one() -> None:
    """As the paper says it in words: contiguous threes, fours, three other fours, all."""
    net: Any = zoo.create("lenet5", 10)
    wanted = [{(j + k) % 6 for k in range(3)} for j in range(6)]
    wanted += [{(j + k) % 6 for k in range(4)} for j in range(6)]
    wanted += [{0, 1, 3, 4}, {1, 2, 4, 5}, {0, 2, 3, 5}, set(range(6))]
    seen: list[set[int]] = [set() for _ in range(16)]
    still = net.c3(torch.zeros(1, 6, 5, 5))[0, :, 0, 0]
    for source in range(6):
        maps = torch.zeros(1, 6, 5, 5)
        maps[0, source] = 1.0
        moved = net.c3(maps)[0, :, 0, 0] != still
        for target in moved.nonzero().flatten().tolist():
            seen[target].add(source)
    assert seen == wanted


def test_lenet5_computes_what_scaled_tanh_computes() -> None:
    """1.7159 tanh(2x/3) with the factors in the weights around it: the same logits."""
    torch.manual_seed(0)
    ours: Any = zoo.create("lenet5", 4)
    paper: Any = zoo.create("lenet5", 4)
    with torch.no_grad():
        for name, layer in ours.named_children():
            first, last = name == "c1", name == "head"
            for key, value in layer.named_parameters():
                factor = (1.0 if last else 1.5) / (1.0 if first or "bias" in key else 1.7159)
                paper.get_submodule(name).get_parameter(key).copy_(value * factor)
        x = torch.rand(2, 1, 32, 32) * 2 - 1
        y = x
        for name in ("c1", "s2", "c3", "s4", "c5", "f6"):
            y = y.flatten(1) if name == "f6" else y
            y = 1.7159 * torch.tanh(2 / 3 * paper.get_submodule(name)(y))
        assert torch.allclose(paper.head(y), ours(x), atol=1e-5)


def test_quantization_aware_training_rounds_the_kernels_of_table_one() -> None:
    from models.training.quantization_aware import QuantizationAware

    net: Any = zoo.create("lenet5", 3).eval()
    x = torch.rand(2, 1, 32, 32)
    aware = QuantizationAware(net, x)
    assert type(aware.traced.c3).__name__ == "QuantizedWeights"
    with torch.no_grad():
        net.c3.weight[net.c3.mask.expand_as(net.c3.weight) == 0] = 0.0
        before = aware.traced.c3(x[:, :, :5, :5].expand(2, 6, 5, 5))
        net.c3.weight[6:12][net.c3.mask[6:12].expand(6, 6, 5, 5) == 0] = 1e-3
        after = aware.traced.c3(x[:, :, :5, :5].expand(2, 6, 5, 5))
    assert torch.equal(before, after)  # what table I leaves out stays out


@pytest.mark.parametrize("name", ["lenet5", "lenet5_relu"])
def test_lenet_at_28_pads_the_picture_by_two(name: str) -> None:
    small, large = zoo.create(name, 3, input_size=28), zoo.create(name, 3, input_size=32)
    large.load_state_dict(small.state_dict())
    x = torch.rand(2, 1, 28, 28)
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2))
    assert torch.allclose(small(x), large(padded), atol=1e-6)
    with pytest.raises(ZooError, match="one of 28, 32"):
        zoo.create(name, 3, input_size=30)


def test_lenet5_relu_has_the_usual_parameters() -> None:
    assert parameters("lenet5_relu", 10) == 61_706


# AlexNet of 2012


def test_alexnet_lrn_normalizes_as_section_3_3_says() -> None:
    with torch.device("meta"):
        net: Any = zoo.create("alexnet_lrn", 3)
    layers = [x for x in net.features if isinstance(x, torch.nn.LocalResponseNorm)]
    assert len(layers) == 2
    a = torch.rand(1, 7, 2, 2) * 100
    wanted = torch.empty_like(a)
    for i in range(7):
        squares = a[:, max(0, i - 2) : i + 3].square().sum(1)
        wanted[:, i] = a[:, i] / (2 + 1e-4 * squares) ** 0.75
    for layer in layers:
        assert torch.allclose(layer(a), wanted, rtol=1e-5)


def test_alexnet_lrn_at_227_pools_nothing_before_the_linear_layers() -> None:
    with torch.device("meta"):
        net: Any = zoo.create("alexnet_lrn", 3)
        sides = []
        x = torch.empty(1, 3, 227, 227)
        for layer in net.features:
            x = layer(x)
            sides.append(x.shape[-1])
    assert sorted(set(sides), reverse=True) == [55, 27, 13, 6]


# Inception


def test_inception_v2_has_the_parameters_of_published_ports() -> None:
    """Caffe's port counts 11,295,240 with a bias a filter, which batch norm makes idle."""
    with torch.device("meta"):
        net = zoo.create("inception_v2", 1000)
    biases = sum(x.out_channels for x in net.modules() if isinstance(x, torch.nn.Conv2d))
    assert parameters("inception_v2") + biases == 11_295_240


def test_inception_v2_has_the_grid_and_poolings_of_figure_5() -> None:
    from torch.nn import AvgPool2d, MaxPool2d

    with torch.device("meta"):
        net: Any = zoo.create("inception_v2", 5)
        x = net.pool2(net.conv2(net.pool1(net.conv1(torch.empty(1, 3, 224, 224)))))
        assert x.shape == (1, 192, 28, 28)
        shapes, poolings, kept = {}, {}, set()
        for name, block in net.blocks.named_children():
            x = block(x)
            shapes[name[-2:]] = tuple(x.shape[1:3])
            poolings[name[-2:]] = type(block.branch_pool[0])
            if len(block.branch_pool) == 1:
                kept.add(name[-2:])
    assert shapes == {
        "3a": (256, 28), "3b": (320, 28), "3c": (576, 14), "4a": (576, 14), "4b": (576, 14),
        "4c": (608, 14), "4d": (608, 14), "4e": (1056, 7), "5a": (1024, 7), "5b": (1024, 7),
    }  # fmt: skip
    assert kept == {"3c", "4e"}
    assert {k for k, kind in poolings.items() if kind is MaxPool2d} == {"3c", "4e", "5b"}
    assert all(kind in (AvgPool2d, MaxPool2d) for kind in poolings.values())


def test_inception_v2_takes_odd_grids() -> None:
    with torch.device("meta"):
        net = zoo.create("inception_v2", 5).eval()
        for size in (33, 47, 208, 241):
            assert net(torch.empty(1, 3, size, size)).shape == (1, 5)


def test_auxiliary_head_of_inception_v3_is_torchvisions_at_its_size() -> None:
    from torchvision.models.inception import InceptionAux

    from models.architectures.inception_v3 import Auxiliary

    torch.manual_seed(0)
    ours, theirs = Auxiliary(8, 3).eval(), InceptionAux(8, 3).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 8, 17, 17)
    assert torch.equal(ours(x), theirs(x))
    for side in (3, 9, 16):
        assert ours(torch.rand(2, 8, side, side)).shape == (2, 3)


# MobileNets


def test_mobilenet_v1_has_the_grid_of_table_one() -> None:
    with torch.device("meta"):
        net: Any = zoo.create("mobilenet_v1", 5)
        x, shapes = torch.empty(1, 3, 224, 224), []
        for layer in net.features:
            x = layer(x)
            shapes.append(tuple(x.shape[1:3]))
    assert shapes == [
        (32, 112), (64, 112), (128, 56), (128, 56), (256, 28), (256, 28), *[(512, 14)] * 6,
        (1024, 7), (1024, 7),
    ]  # fmt: skip


def test_mobilenet_v1_rounds_channels_as_mobilenet_v2() -> None:
    from torchvision.models._utils import _make_divisible

    from models.architectures.mobilenet_v1 import scaled

    for channels in (32, 64, 128, 1024):
        for hundredths in range(10, 201):
            width = hundredths / 100
            assert scaled(channels, width) == _make_divisible(channels * width, 8)


@pytest.mark.parametrize(("stride", "size"), [(8, 64), (16, 64), (16, 72)])
def test_a_finer_output_stride_holds_the_coarse_features(stride: int, size: int) -> None:
    options = {"width_mult": 0.1, "input_size": size}
    coarse: Any = shake(zoo.create("mobilenet_v2", 3, **options))
    fine: Any = zoo.create("mobilenet_v2", 3, **options, output_stride=stride).eval()
    assert list(fine.state_dict()) == list(coarse.state_dict())
    fine.load_state_dict(coarse.state_dict())
    with torch.no_grad():
        x = torch.rand(1, 3, size, size) * 2 - 1
        features, few = fine.features(x), coarse.features(x)
    step = 32 // stride
    assert features.shape[-1] == -(-size // stride)
    assert torch.allclose(features[..., ::step, ::step], few, atol=1e-5)
    assert float(few.std()) > 0.01


def test_published_weights_fit_every_output_stride() -> None:
    with torch.device("meta"):
        shapes = [
            {k: v.shape for k, v in zoo.create("mobilenet_v2", 9, **options).state_dict().items()}
            for options in ({}, {"output_stride": 16}, {"output_stride": 8})
        ]
    assert shapes[0] == shapes[1] == shapes[2]
    assert set(zoo.get("mobilenet_v2").published_options) == {"width_mult"}
    with pytest.raises(ZooError, match="one of 8, 16, 32"):
        zoo.create("mobilenet_v2", 9, output_stride=24)


def test_options_of_before_output_stride_settle_to_32() -> None:
    before = {"width_mult": 0.35, "input_size": 96}
    assert zoo.get("mobilenet_v2").settle(before) == {**before, "output_stride": 32}


# EfficientNet


@pytest.mark.parametrize(
    ("name", "size", "depth", "width"),
    [
        ("efficientnet_b0", 224, 1.0, 1.0),
        ("efficientnet_b1", 240, 1.1, 1.0),
        ("efficientnet_b2", 260, 1.2, 1.1),
        ("efficientnet_b3", 300, 1.4, 1.2),
    ],
)
def test_compound_scaling_gives_the_named_ones(
    name: str, size: int, depth: float, width: float
) -> None:
    assert zoo.get(name).options["input_size"].default == size
    with torch.device("meta"):
        named = zoo.create(name, 1000)
        scaled = zoo.create("efficientnet", 1000, depth_mult=depth, width_mult=width)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (named, scaled)]
    assert shapes[0] == shapes[1]


def test_efficientnet_starts_with_small_logits() -> None:
    """torchvision's head of three classes has weights of +-0.58: logits of several units."""
    for name in ("efficientnet", "efficientnet_b0"):
        head = zoo.create(name, 3).get_parameter("classifier.1.weight")
        assert 0.008 < float(head.detach().std()) < 0.012


def test_compound_scaling_computes_what_b1_computes() -> None:
    named: Any = shake(zoo.create("efficientnet_b1", 3))
    scaled = zoo.create("efficientnet", 3, depth_mult=1.1, input_size=64).eval()
    scaled.load_state_dict(named.state_dict())
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64) * 2 - 1
        wanted = named(x)
        assert torch.equal(scaled(x), wanted)
    assert float(wanted.std()) > 0
