"""The cards: every member has one, what it says was counted is, and torchvision agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from models import zoo
from models.zoo import card as cards
from models.zoo.card import CardError, Published, differing, load

GOOD = """
title = "A net"
family = "Nets"
dataset = "ImageNet-1k"
classes = 1000
input_size = 224
weights = "none published"
licence = "none"
int8 = '''
Two lines
of text.
'''
notes = "none"

[paper]
authors = "Somebody"
year = 1999
title = "On nets"
venue = "nowhere"

[counted]
parameters = 1000
multiply_adds = 50_000

[[published]]
source = "paper"
where = "Table 1"
parameters = 1010
multiply_adds = 49_600
top1 = 50
"""


def written(folder: Path, text: str) -> Path:
    (folder / "net.toml").write_text(text, encoding="utf-8")
    return folder


def test_every_architecture_has_a_card_and_every_card_an_architecture() -> None:
    assert cards.names() == zoo.names()


@pytest.mark.parametrize("name", zoo.names())
def test_the_counted_figures_are_counted(name: str) -> None:
    pytest.importorskip("torch")
    from models.zoo.count import Counted, counted

    card, entry = load(name), zoo.get(name)
    assert counted(name, card.classes) == Counted(card.parameters, card.multiply_adds)
    assert card.input_size == entry.options["input_size"].default
    assert card.classes == (10 if entry.grayscale else 1000)


@pytest.mark.parametrize("name", zoo.names())
def test_torchvision_says_the_same_of_its_weights(name: str) -> None:
    pytest.importorskip("torch")
    from models.torchvision_shim import import_torchvision

    card, entry = load(name), zoo.get(name)
    given = [published for published in card.published if published.source == "torchvision"]
    if entry.published is None:
        assert card.weights.startswith(cards.NO_WEIGHTS)
        assert not given
        return
    assert card.weights == entry.published
    enum, member = entry.published.split(".")
    meta = getattr(import_torchvision().models, enum)[member].meta
    (published,) = given
    assert published.where == entry.published
    assert published.parameters == meta["num_params"]
    assert published.multiply_adds == pytest.approx(meta["_ops"] * 1e9)
    assert published.top1 == meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert card.top1 is published


@pytest.mark.parametrize("name", zoo.names())
def test_a_card_has_figures_or_says_that_there_are_none(name: str) -> None:
    card = load(name)
    assert card.published or "no figures" in card.notes or "published figures" in card.notes
    sources = [(published.source, published.where) for published in card.published]
    assert len(set(sources)) == len(sources)
    assert all(published.top1 is None or published.top1 < 100 for published in card.published)


def test_a_good_card(tmp_path: Path) -> None:
    card = load("net", written(tmp_path, GOOD))
    assert card.name == "net"
    assert card.int8 == "Two lines of text."
    assert card.published == (Published("paper", "Table 1", 1010.0, 49600.0, 50.0, None),)
    assert card.top1 is card.published[0]


def test_the_weights_top1_comes_before_the_papers(tmp_path: Path) -> None:
    more = '[[published]]\nsource = "torchvision"\nwhere = "W.V1"\ntop1 = 40.5\n'
    text = GOOD.replace('"none published"', '"W.V1"') + more
    shown = load("net", written(tmp_path, text)).top1
    assert shown is not None
    assert shown.top1 == 40.5


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "A net"\n', "", "no title"),
        ("year = 1999\n", "", "no year"),
        ("parameters = 1000\n", "", "no parameters"),
        ("notes = ", "note = ", "no notes"),
        ("[counted]", "rating = 5\n[counted]", "unknown rating"),
        ('title = "A net"', 'title = "A net"\nyear = 1999', "unknown year"),
        ("top1 = 50", "top5 = 50", "unknown top5"),
        ("classes = 1000", 'classes = "1000"', "classes is '1000'"),
        ("classes = 1000", "classes = true", "classes is True"),
        ("classes = 1000", "classes = 0", "classes is 0"),
        ("top1 = 50", "top1 = -1", "top1 is -1"),
        ("top1 = 50", "top1 = nan", "top1 is nan"),
        ('family = "Nets"', 'family = "  "', "family is empty"),
        ("[[published]]", "[published]", "published is"),
        ("[[published]]", "[[", "net.toml"),
        ("parameters = 1010\nmultiply_adds = 49_600\ntop1 = 50\n", "", "no figure"),
    ],
)
def test_a_card_that_is_not_whole(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(CardError) as caught:
        load("net", written(tmp_path, GOOD.replace(old, new)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("parameters = 1010", "parameters = 1011"),  # 1000 is 1.09 % below
        ("parameters = 1010", "parameters = 990"),
        ("multiply_adds = 49_600", "multiply_adds = 49_500"),
    ],
)
def test_a_difference_has_to_be_explained(tmp_path: Path, old: str, new: str) -> None:
    text = GOOD.replace(old, new)
    with pytest.raises(CardError, match="nothing says why"):
        load("net", written(tmp_path, text))
    explained = load("net", written(tmp_path, text + 'difference = "It is counted otherwise."\n'))
    assert explained.published[0].difference == "It is counted otherwise."


def test_no_difference_must_not_be_explained(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="there is none"):
        load("net", written(tmp_path, GOOD + 'difference = "It is counted otherwise."\n'))


def test_a_missing_card(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"'net' has no card net\.toml"):
        load("net", tmp_path)


def test_differing_names_the_figures() -> None:
    entry = Published("paper", "Table 1", 100.0, 200.0, None, None)
    assert differing(entry, 100, 200) == ()
    assert differing(entry, 101, 198) == ()
    assert differing(entry, 102, 197) == ("parameters", "multiply_adds")
    assert differing(Published("paper", "", None, None, 50.0, None), 1, 1) == ()


def _on_meta(name: str) -> Any:
    import torch

    with torch.device("meta"):
        return zoo.get(name).create(1000)


def _without_batch_norm(name: str) -> int:
    net = _on_meta(name)
    norms = {key.removesuffix("running_mean") for key in net.state_dict() if "running_mean" in key}
    return sum(
        value.numel()
        for key, value in net.named_parameters()
        if key.rpartition(".")[0] + "." not in norms
    )


@pytest.mark.parametrize(
    ("name", "millions"),
    [("mobilenet_v2", 3.47), ("mobilenet_v3_small", 2.53), ("mobilenet_v3_large", 5.46)],
)
def test_explained_by_batch_norm(name: str, millions: float) -> None:
    pytest.importorskip("torch")
    assert round(_without_batch_norm(name) / 1e6, 2) == millions
    assert f"{millions} M" in str([entry.difference for entry in load(name).published])


@pytest.mark.parametrize(
    ("name", "size", "figure"),
    [
        ("efficientnet_b2", 288, "1.088 G"),
        ("squeezenet1_0", 227, "833 M"),
        ("squeezenet1_1", 227, "388 M"),
    ],
)
def test_explained_by_the_input_size(name: str, size: int, figure: str) -> None:
    pytest.importorskip("torch")
    from models.zoo.count import counted

    number, unit = figure.split()
    cost = counted(name, 1000, {"input_size": size}).multiply_adds
    decimals = len(number.partition(".")[2])
    assert round(cost / {"G": 1e9, "M": 1e6}[unit], decimals) == float(number)
    assert figure in str([entry.difference for entry in load(name).published])


@pytest.mark.parametrize(("name", "figure"), [("resnet50", "3.86 G"), ("resnet152", "11.28 G")])
def test_explained_by_the_papers_strides(name: str, figure: str) -> None:
    pytest.importorskip("torch")
    from models.zoo.count import count

    net = _on_meta(name)
    for block in net.modules():
        if type(block).__name__ == "Bottleneck" and block.conv2.stride == (2, 2):
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    assert f"{count(net, 224).multiply_adds / 1e9:.2f} G" == figure
    assert figure in str(load(name).published[0].difference)


def test_explained_by_5x5_convolutions() -> None:
    torch = pytest.importorskip("torch")
    from models.zoo.count import count

    net = _on_meta("googlenet")
    for path, module in list(net.named_modules()):
        if path.endswith("branch3"):
            old = module[1].conv
            module[1].conv = torch.nn.Conv2d(
                old.in_channels, old.out_channels, 5, padding=2, bias=False, device="meta"
            )
    size = count(net, 224, left_out=zoo.get("googlenet").auxiliary_prefixes)
    assert f"{size.parameters / 1e6:.2f} M" == "7.01 M"
    assert "7.01 M" in str(load("googlenet").published[0].difference)
