"""Photographs on the page in headless Chromium, from the server that users start."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pages import (
    LAST_BITS,
    MISSING,
    Visit,
    classify,
    python_answer,
    save,
    served,
)
from PIL import Image

from exporter.bundle import Bundle
from support import page_bundle

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def test_a_photo_gets_pythons_label_and_probability(
    shown: Bundle, address: str, visit: Visit, tmp_path: Path
) -> None:
    with visit(address) as watched:
        for seed, size in ((1, (131, 87)), (2, (60, 140)), (3, (37, 37))):
            path = save(tmp_path, f"{seed}.png", page_bundle.photo(seed, *size))
            for key, bound in (("tflite-int8", LAST_BITS), ("tflite-float32", 1e-5)):
                expected = python_answer(shown, path, key)
                found = classify(watched.page, path, key)
                assert np.abs(np.float32(found) - expected).max() <= bound
                best = shown.contract.labels[int(expected.argmax())]
                assert watched.page.inner_text("#answer") == best.name
                first = watched.page.inner_text("#top li:first-child")
                assert best.name in first
                assert best.scientific_name in first
                assert f"{100 * expected.max():.1f} %" in first
        assert watched.errors == []


def test_transparency_and_grey_are_as_in_python(
    shown: Bundle, address: str, visit: Visit, tmp_path: Path
) -> None:
    photo = page_bundle.photo(5, 70, 50)
    holes = Image.fromarray(np.tile([[0, 255]], (50, 35)).astype(np.uint8))
    pictures = {"grey.png": photo.convert("L"), "palette.png": photo.quantize(40)}
    pictures["holes.png"] = photo.copy()
    pictures["holes.png"].putalpha(holes)
    veil = np.random.default_rng(5).integers(0, 256, (50, 70), dtype=np.uint8)
    pictures["veil.png"] = photo.copy()
    pictures["veil.png"].putalpha(Image.fromarray(veil))
    with visit(address) as watched:
        for name, picture in pictures.items():
            path = save(tmp_path, name, picture)
            found = np.float32(classify(watched.page, path))
            expected = python_answer(shown, path, "tflite-int8")
            assert np.abs(found - expected).max() <= LAST_BITS, name


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_jpeg_is_turned_as_exif_says(
    shown: Bundle, address: str, visit: Visit, tmp_path: Path, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = page_bundle.photo(7, 240, 160)
    path = save(tmp_path, "photo.jpg", photo, exif=exif, quality=92)
    with visit(address) as watched:
        found = np.float32(classify(watched.page, path, "tflite-float32"))
        expected = python_answer(shown, path, "tflite-float32")
        # Pillow and Chromium both decode JPEG with libjpeg-turbo, to the same pixels.
        assert np.abs(found - expected).max() <= 1e-5
    unturned = save(tmp_path, "plain.png", photo)
    if orientation != 1:
        other = python_answer(shown, unturned, "tflite-float32")
        assert np.abs(expected - other).max() > 0.04


@pytest.mark.parametrize("orientation", [5, 6])
@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_png_and_webp_are_turned_too(
    shown: Bundle, address: str, visit: Visit, tmp_path: Path, suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    path = save(tmp_path, f"a.{suffix}", page_bundle.photo(8, 90, 50), exif=exif, **options)
    with visit(address) as watched:
        found = np.float32(classify(watched.page, path))
        assert np.abs(found - python_answer(shown, path, "tflite-int8")).max() <= LAST_BITS


def test_not_sure_and_venom_are_said_in_words(tmp_path: Path, visit: Visit) -> None:
    unsure = page_bundle.write(tmp_path / "dist", page_bundle.contract(threshold=1.0))
    path = save(tmp_path, "a.png", page_bundle.photo(1, 80, 60))
    with served(unsure) as address, visit(address) as watched:
        classify(watched.page, path)
        assert watched.page.inner_text("#answer") == "Not sure"
        assert "No class reaches 100.0 %" in watched.page.inner_text("#verdict")
        marks = watched.page.eval_on_selector_all(
            "#top li", "all => all.map(one => one.querySelector('.venom').textContent)"
        )
        words = {"yes": "Venomous", "no": "Not venomous", "unknown": "Venom not known"}
        ranked = np.argsort(-python_answer(unsure, path, "tflite-int8"), kind="stable")[:3]
        assert marks == [words[unsure.contract.labels[index].venomous] for index in ranked]
        assert "No medical advice" in watched.page.inner_text("main")


def test_several_answers_are_named_and_listed(tmp_path: Path, visit: Visit) -> None:
    """All that reach their thresholds, likeliest first, however many; else not sure."""
    one = page_bundle.contract()
    low = dataclasses.replace(one, activation="sigmoid", thresholds=(0.0,) * 5 + (1.0,))
    bundle = page_bundle.write(tmp_path / "dist", low)
    path = save(tmp_path, "a.png", page_bundle.photo(1, 80, 60))
    with served(bundle) as address, visit(address) as watched:
        found = classify(watched.page, path)
        order = [k for k in np.argsort(-np.float32(found), kind="stable") if k != 5]
        names = [low.names[k] for k in order]
        assert watched.page.inner_text("#answer") == ", ".join(names)
        listed = watched.page.eval_on_selector_all(
            "#top li", "all => all.map(one => one.querySelector('b').textContent)"
        )
        assert listed == names
        assert "Venomous" in watched.page.inner_text("#verdict")  # one of them is
    none = dataclasses.replace(low, thresholds=(1.0,) * 6)
    other = page_bundle.write(tmp_path / "none", none)
    with served(other) as address, visit(address) as watched:
        classify(watched.page, path)
        assert watched.page.inner_text("#answer") == "Not sure"
        assert "No class reaches the threshold of its own" in watched.page.inner_text("#verdict")
        assert watched.page.locator("#top li").count() == 3


def test_files_of_one_precision_have_names_of_their_own(tmp_path: Path, visit: Visit) -> None:
    keys = ("tflite-float32", "tflite-int8", "tflite-mixed")
    path = save(tmp_path, "a.png", page_bundle.photo(1, 80, 60))
    with (
        served(page_bundle.write(tmp_path / "dist", keys=keys)) as address,
        visit(address) as watched,
    ):
        shown = watched.page.eval_on_selector_all(
            "#model option", "all => all.map(one => one.textContent.split(',')[0])"
        )
        assert shown == ["float32", "int8", "mixed"]
        classify(watched.page, path, "tflite-mixed")
        assert "for the model (mixed, " in watched.page.inner_text("#latency")


def test_drop_keyboard_and_names(address: str, visit: Visit, tmp_path: Path) -> None:
    stream = io.BytesIO()
    page_bundle.photo(4, 90, 70).save(stream, "png")
    with visit(address) as watched:
        page = watched.page
        page.evaluate(
            """bytes => {
                const data = new DataTransfer();
                data.items.add(new File([Uint8Array.from(bytes)], 'a.png', {type: 'image/png'}));
                document.body.dispatchEvent(
                    new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
            }""",
            list(stream.getvalue()),
        )
        page.wait_for_selector("#result:not([hidden])")
        assert page.evaluate("document.activeElement.id") == "answer"
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('input, select, button, img, canvas')]
                .filter(one => !(one.labels?.length || one.textContent.trim() || one.alt ||
                                 one.getAttribute('aria-label')))
                .map(one => one.id)"""
        )
        assert nameless == []
        assert watched.errors == []


@pytest.mark.parametrize(("button", "mode"), [("Pick a photo", None), ("Take a photo", "camera")])
def test_a_tap_on_a_button_opens_the_photo_or_the_camera(
    shown: Bundle, address: str, visit: Visit, tmp_path: Path, button: str, mode: str | None
) -> None:
    path = save(tmp_path, "a.jpg", page_bundle.photo(4, 90, 70), quality=90)
    with visit(address) as watched:
        page = watched.page
        with page.expect_file_chooser() as chooser:
            page.tap(f"text={button}")
        captured = chooser.value.element.get_attribute("capture")
        assert captured == ("environment" if mode else None)
        chooser.value.set_files(str(path))
        page.wait_for_selector("#result:not([hidden])")
        found = np.float32(json.loads(page.get_attribute("#result", "data-probabilities")))
        assert np.abs(found - python_answer(shown, path, "tflite-int8")).max() <= 1e-5
        assert watched.errors == []


DROP_TWO = """
files => {
    for (const [name, bytes] of files) {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], name));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true}));
    }
}
"""


def test_one_photo_after_the_other_shows_the_last(
    address: str, visit: Visit, tmp_path: Path
) -> None:
    """The failure of the first must not stand above the answer to the second."""
    good = save(tmp_path, "a.png", page_bundle.photo(4, 90, 70)).read_bytes()
    with visit(address) as watched:
        page = watched.page
        page.evaluate(DROP_TWO, [["text.png", list(b"no picture")], ["a.png", list(good)]])
        page.wait_for_selector("#result:not([hidden])")
        assert not page.is_visible("#problem")
