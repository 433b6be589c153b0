"""The registry, parametrized over everything that is in it."""

from __future__ import annotations

from typing import Any

import pytest

from models import zoo
from models.zoo import Option, ZooError, input_size_option

torch = pytest.importorskip("torch")


def small(name: str) -> dict[str, Any]:
    """Options that make an architecture as small as it gets."""
    entry = zoo.get(name)
    return {key: option.smallest for key, option in entry.options.items()}


def pictures(name: str) -> Any:
    """Two pictures of the smallest size, float32 in [-1, 1)."""
    entry = zoo.get(name)
    size = int(entry.options["input_size"].smallest)
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 1 if entry.grayscale else 3, size, size, generator=generator) * 2 - 1


@pytest.fixture(scope="module", params=zoo.names())
def made(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """An entry and its smallest network with five classes, made once for all tests here."""
    torch.manual_seed(0)
    name = request.param
    return zoo.get(name), zoo.create(name, 5, **small(name))


def test_entry_is_whole(made: tuple[Any, Any]) -> None:
    entry, net = made
    with torch.no_grad():
        assert net.eval()(pictures(entry.name)).shape == (2, 5)
    stem, norm = entry.stem
    assert isinstance(net.get_submodule(stem), torch.nn.Conv2d)
    assert net.get_submodule(stem).in_channels == (1 if entry.grayscale else 3)
    if norm is not None:
        assert isinstance(net.get_submodule(norm), torch.nn.BatchNorm2d)
    assert set(entry.published_options) <= set(entry.options)


def test_tail_gives_the_logits_from_what_the_head_takes(made: tuple[Any, Any]) -> None:
    entry, net = made
    taken: list[Any] = []
    head = net.eval().get_submodule(entry.head)
    hook = head.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    with torch.no_grad():
        logits = net(pictures(entry.name))
        hook.remove()
        (features,) = taken
        again = entry.tail(net)(features)
    assert torch.equal(again, logits)
    assert float(logits.abs().max()) > 0  # or any tail of zeros would do


def test_training_reaches_every_weight(made: tuple[Any, Any]) -> None:
    entry, net = made
    answers = net.train()(pictures(entry.name))
    if entry.auxiliary:
        assert isinstance(answers, tuple)
        assert len(answers) == 1 + len(entry.auxiliary)
    else:
        answers = (answers,)
    assert all(logits.shape == (2, 5) for logits in answers)
    losses = [torch.nn.functional.cross_entropy(x, torch.tensor([1, 3])) for x in answers]
    assert 0.5 < losses[0].item() < 6.0  # a guess among five has log(5) = 1.6
    sum(losses).backward()
    gradients = {key: value.grad for key, value in net.named_parameters()}
    net.zero_grad(set_to_none=True)
    assert [key for key, value in gradients.items() if value is None] == []
    assert all(bool(value.isfinite().all()) for value in gradients.values())
    assert float(gradients[entry.stem[0] + ".weight"].abs().max()) > 0


def test_replaced_head_is_nearly_uniform_and_leaves_the_rest(made: tuple[Any, Any]) -> None:
    entry, net = made
    before = {key: (value.data_ptr(), value._version) for key, value in net.state_dict().items()}
    tail = entry.tail(net)
    assert entry.replace_head(net, 7) is net
    after = net.state_dict()
    assert set(after) == set(before)
    for key, value in after.items():
        if key.rpartition(".")[0] in (entry.head, *entry.auxiliary):
            assert value.shape[0] == 7
        else:
            assert (value.data_ptr(), value._version) == before[key]
    assert float(after[entry.head + ".bias"].abs().max()) == 0.0
    assert 0.005 < float(after[entry.head + ".weight"].std()) < 0.02
    assert entry.tail(net) is not tail
    assert next(entry.tail(net).parameters()).shape[0] == 7
    entry.replace_head(net, 5)  # as it was made


@pytest.mark.parametrize("name", zoo.names())
def test_a_size_below_the_smallest_is_refused(name: str) -> None:
    smallest = int(zoo.get(name).options["input_size"].smallest)
    with pytest.raises(ZooError, match=f"input_size is {smallest - 1}"):
        zoo.create(name, 5, input_size=smallest - 1)


def test_published_weights_exist_in_torchvision() -> None:
    from models.torchvision_shim import import_torchvision

    torchvision = import_torchvision()
    for name in zoo.names():
        published = zoo.get(name).published
        if published is not None:
            enum, member = published.split(".")
            assert getattr(torchvision.models, enum)[member].url.startswith("https://")


def test_tail_of_squeezenet_ends_with_its_pooling() -> None:
    entry = zoo.get("squeezenet1_1")
    net = entry.create(5, {"input_size": 64}).eval()
    tail = entry.tail(net)
    kinds = [type(layer).__name__ for layer in tail.children()]
    assert kinds == ["Conv2d", "ReLU", "AdaptiveAvgPool2d", "Flatten"]
    assert next(tail.parameters()) is net.get_submodule(entry.head).weight


def test_weights_file_is_the_published_name() -> None:
    assert zoo.get("resnet18").weights_file == "resnet18-f37072fd.pth"
    files = [zoo.get(name).weights_file for name in zoo.names() if zoo.get(name).published]
    assert all(file and file.endswith(".pth") for file in files)
    assert len(set(files)) == len(files)


def test_mobilenet_v2_width_scales_channels() -> None:
    # 32 * 0.35 = 11.2, rounded to a multiple of 8 but never down by more than a tenth: 16.
    net = zoo.create("mobilenet_v2", 3, width_mult=0.35)
    assert net.get_submodule("features.0.0").out_channels == 16
    assert zoo.create("mobilenet_v2", 3).get_submodule("features.0.0").out_channels == 32


def test_a_name_taken_twice_raises() -> None:
    with pytest.raises(ValueError, match="registered twice"):

        @zoo.register(
            "mobilenet_v2", head="h", stem=("s", None), options={"input_size": input_size_option(8)}
        )
        def again(classes: int, *, input_size: int) -> Any:
            raise AssertionError

    assert zoo.get("mobilenet_v2").head == "classifier.1"


def test_keywords_have_to_be_the_options() -> None:
    with pytest.raises(ValueError, match="keywords"):

        @zoo.register(
            "misdeclared", head="h", stem=("s", None), options={"input_size": Option(8, 8, 8)}
        )
        def misdeclared(classes: int, *, input_size: int, depth: int) -> Any:
            raise AssertionError

    with pytest.raises(ValueError, match="input_size"):
        zoo.register("sizeless", head="h", stem=("s", None), options={})(lambda classes: None)
    assert "misdeclared" not in zoo.names()
    assert "sizeless" not in zoo.names()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 1.0}, "no option 'width'"),
        ({"width_mult": 0.0}, "width_mult is 0.0"),
        ({"width_mult": float("nan")}, "width_mult is nan"),
        ({"width_mult": "1"}, "width_mult is '1'"),
        ({"width_mult": True}, "width_mult is True"),
        ({"input_size": 100.5}, "input_size is 100.5"),
        ({"input_size": 16}, "from 32 to 1024"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ZooError) as caught:
        zoo.create("mobilenet_v2", 3, **options)
    assert words in str(caught.value)
    assert caught.value.mend


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(ZooError, match="mobilenet_v2"):
        zoo.create("mobilenet_v9", 3)


@pytest.mark.parametrize("classes", [1, 0, True, 2.0])
def test_too_few_classes(classes: Any) -> None:
    with pytest.raises(ZooError, match="class"):
        zoo.create("mobilenet_v2", classes)


def test_a_head_of_another_kind_is_our_mistake() -> None:
    entry = zoo.get("mobilenet_v2")
    net = zoo.create("mobilenet_v2", 3, width_mult=0.35)
    net.classifier[1] = torch.nn.Identity()  # type: ignore[operator, index]
    with pytest.raises(TypeError, match="Identity"):
        entry.replace_head(net, 4)


@pytest.mark.parametrize("value", [30, 27, 40, "32"])
def test_an_option_of_few_values_names_them(value: Any) -> None:
    with pytest.raises(ZooError) as caught:
        zoo.get("lenet5").settle({"input_size": value})
    assert caught.value.why.endswith("is one of 28, 32")
    assert caught.value.mend == "leave it away for 32, or give one of those"
