"""Features of a frozen backbone: what they are, under which key, and that they are kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.contract import Contract, Label, Preprocessing
from models.data.folder import load_folder
from models.data.labelled import DataError, Item
from models.images import ImageError, content_hash, load_pixels
from support import nets

torch = pytest.importorskip("torch", reason="the backbone is a torch module")

from models import features, zoo  # noqa: E402
from models.classifier import Classifier  # noqa: E402
from models.features import Backbone, View, frozen_features, key_of  # noqa: E402

SIZE = 32
OPTIONS = {"width_mult": 0.1, "input_size": SIZE}


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> tuple[Item, ...]:
    """Nine images of three classes, wider than high."""
    root = tmp_path_factory.mktemp("photos")
    for place in range(9):
        folder = root / f"class {place % 3}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(nets.image(place, 56)[:40]).save(folder / f"{place}.png")
    return load_folder(root).items


def made(
    seed: int = 0, architecture: str = "mobilenet_v2", classes: int = 3, rule: int = 36
) -> Backbone:
    entry = zoo.get(architecture)
    options = entry.settle(OPTIONS if architecture == "mobilenet_v2" else {"input_size": 64})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = entry.create(classes, options)
        size = int(options["input_size"])
        pixels = torch.from_numpy(np.stack(nets.images(8, size))).permute(0, 3, 1, 2).float()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean over all batches: answers move with the image
        with torch.no_grad():
            net.train()(pixels / 127.5 - 1)
    labels = tuple(Label(f"class {place}") for place in range(classes))
    contract = Contract(labels, Preprocessing(size, size, max(rule, size)))
    return Backbone(architecture, options, Classifier(net, contract))


def logits_of(backbone: Backbone, items: tuple[Item, ...]) -> torch.Tensor:
    pixels = np.stack([load_pixels(item.path, backbone.rule) for item in items])
    with torch.inference_mode():
        return backbone.classifier.logits(torch.from_numpy(pixels))


@pytest.mark.parametrize("architecture", ["mobilenet_v2", "squeezenet1_1"])
def test_the_tail_on_the_features_is_the_network(
    architecture: str, items: tuple[Item, ...], tmp_path: Path
) -> None:
    backbone = made(architecture=architecture)
    found = frozen_features(backbone, items, tmp_path)
    with torch.inference_mode():
        logits = backbone.tail.eval()(torch.from_numpy(np.array(found.values)))
    assert found.values.dtype == np.float32
    assert float(logits_of(backbone, items).std()) > 1e-4  # else any features would do
    torch.testing.assert_close(logits, logits_of(backbone, items), rtol=1e-4, atol=1e-6)


def test_rows_are_in_the_order_of_the_images(items: tuple[Item, ...], tmp_path: Path) -> None:
    backbone = made()
    forward = frozen_features(backbone, items, tmp_path)
    backward = frozen_features(backbone, items[::-1], tmp_path)
    assert forward.path != backward.path
    np.testing.assert_allclose(forward.values, backward.values[::-1], rtol=1e-4, atol=1e-5)
    assert not np.allclose(forward.values[0], forward.values[1])


def test_the_second_call_computes_nothing(
    items: tuple[Item, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, seen = made(), []
    first = frozen_features(backbone, items, tmp_path, on_image=lambda: seen.append(1))
    assert (first.known, len(seen)) == (False, len(items))
    monkeypatch.setattr(features, "_write", lambda *given: pytest.fail("computed again"))
    second = frozen_features(made(), items, tmp_path)
    assert second.known
    assert second.seconds == first.seconds
    assert isinstance(second.values, np.memmap)
    assert not second.values.flags.writeable
    np.testing.assert_array_equal(first.values, second.values)


def test_another_head_finds_the_same_features(items: tuple[Item, ...]) -> None:
    one, other = made(), made(classes=5)
    state = one.classifier.net.state_dict()
    own = other.classifier.net.state_dict()
    frozen = {k: v for k, v in state.items() if not k.startswith("classifier.1.")}
    other.classifier.net.load_state_dict({**own, **frozen})
    fresh = Backbone(other.architecture, other.options, other.classifier)
    assert key_of(one, items) == key_of(fresh, items)


def test_the_key_changes_with_all_that_decides(items: tuple[Item, ...]) -> None:
    base = made()
    moved = made()
    with torch.no_grad():
        moved.classifier.net.features[0][0].weight[0, 0, 0, 0] += 1e-6
    statistics = made()
    statistics.classifier.net.features[0][1].running_mean[0] += 1e-3
    keys = {
        "base": key_of(base, items),
        "a weight": key_of(moved, items),
        "a running mean": key_of(statistics, items),
        "an option": key_of(Backbone("mobilenet_v2", {**base.options, "x": 1}, base.classifier),
                            items),
        "the resize rule": key_of(made(rule=40), items),
        "an image less": key_of(base, items[1:]),
        "the order": key_of(base, items[::-1]),
        "the view": key_of(base, items, view=View(1)),
        "another view": key_of(base, items, view=View(2)),
        "its crops": key_of(base, items, view=View(1, crop_scale=(0.9, 1.0))),
        "its seed": key_of(base, items, view=View(1), seed=1),
        "the number format": key_of(base, items, number="float16"),
    }  # fmt: skip
    assert len(set(keys.values())) == len(keys)
    assert key_of(base, items, seed=1) == keys["base"]  # the plain view draws nothing
    assert key_of(base, items, view=View(0, jitter=0.4)) == keys["base"]


def test_a_copy_of_a_photograph_elsewhere_has_the_same_key(
    items: tuple[Item, ...], tmp_path: Path
) -> None:
    moved = []
    for place, item in enumerate(items):
        path = tmp_path / f"copy {place}.png"
        path.write_bytes(item.path.read_bytes())
        moved.append(Item(path, item.labels, content_hash(path)))
    assert key_of(made(), moved) == key_of(made(), items)


def test_augmented_views_differ_and_repeat(items: tuple[Item, ...], tmp_path: Path) -> None:
    backbone = made()
    plain = frozen_features(backbone, items, tmp_path / "a")
    first = frozen_features(backbone, items, tmp_path / "a", view=View(1))
    second = frozen_features(backbone, items, tmp_path / "a", view=View(2))
    before = torch.random.get_rng_state()
    again = frozen_features(backbone, items[::-1], tmp_path / "b", view=View(1))
    assert torch.equal(before, torch.random.get_rng_state())
    for one, other in ((plain, first), (plain, second), (first, second)):
        assert not np.allclose(one.values, other.values, rtol=1e-3)
    np.testing.assert_allclose(first.values, again.values[::-1], rtol=1e-4, atol=1e-5)


def test_float16_rounds_only(items: tuple[Item, ...], tmp_path: Path) -> None:
    exact = frozen_features(made(), items, tmp_path)
    half = frozen_features(made(), items, tmp_path, number="float16")
    assert half.values.dtype == np.float16
    np.testing.assert_allclose(half.values, exact.values, rtol=2e-3, atol=1e-4)


def test_what_is_damaged_is_computed_again(items: tuple[Item, ...], tmp_path: Path) -> None:
    made_once = frozen_features(made(), items, tmp_path)
    wanted = np.array(made_once.values)
    for damage in ("cut", "record", "shape"):
        if damage == "cut":
            data = made_once.path / features.DATA
            data.write_bytes(data.read_bytes()[:200])
        elif damage == "record":
            (made_once.path / features.RECORD).write_text("{")
        else:
            record = json.loads((made_once.path / features.RECORD).read_text())
            (made_once.path / features.RECORD).write_text(json.dumps({**record, "images": 3}))
        again = frozen_features(made(), items, tmp_path)
        assert not again.known, damage
        np.testing.assert_allclose(again.values, wanted, rtol=1e-4, atol=1e-5)


def test_an_interrupted_computation_leaves_nothing(items: tuple[Item, ...], tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        frozen_features(made(), items, tmp_path, on_image=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_computed_is_said(
    items: tuple[Item, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="no image"):
        frozen_features(made(), [], tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(items[0].path.read_bytes()[:90])
    with pytest.raises(ImageError, match=r"broken\.png"):
        frozen_features(made(), [replace(items[0], path=broken)], tmp_path / "root")

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(features, "_write", full)
    with pytest.raises(DataError, match="no room"):
        frozen_features(made(), items, tmp_path / "root")
