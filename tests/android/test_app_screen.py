"""The app's one screen, run: what a person sees after each tap, and after what the system does.

Activity, view model and layouts are the app's own. Android, CameraX and LiteRT are fakes
(`stubs/screen`), so this is about what the app does with them, not about them; LiteRT's fake
gives the numbers that a test writes down.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from android.stubs import android_app
from exporter.convert.targets.tflite.writer import to_bytes
from models.contract import Contract, Label, Preprocessing
from support import kotlin, tflite_files

LABELS = (
    Label("Adder", "Vipera berus", "yes"),
    Label("Grass snake", "Natrix natrix", "no"),
    Label("Slow worm", "Anguis fragilis", "no"),
    Label("Something else"),
)
SURE, NOT_SURE = (0.71, 0.2, 0.06, 0.03), (0.2, 0.45, 0.3, 0.05)
CONTRACT = Contract(LABELS, Preprocessing(32, 32, 36), not_sure_threshold=0.5)
MAIN = "com.example.classifier.ScreenMainKt"


@dataclass
class Phone:
    """A device with the app on it."""

    class_path: list[Path]
    home: Path

    @property
    def assets(self) -> Path:
        return self.home / "assets"

    def gives(self, *probabilities: float) -> None:
        """What LiteRT answers; `str` of a NaN is not Java's."""
        numbers = ("NaN" if value != value else str(value) for value in probabilities)
        (self.home / "output").write_text(" ".join(numbers))

    def photograph(self, width: int = 60, height: int = 40) -> Path:
        path = self.home / f"{width}x{height}.png"
        noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    def does(self, *actions: str) -> list[list[str]]:
        """The lines on the screen after each action."""
        found = kotlin.run_java(
            self.class_path,
            MAIN,
            actions,
            jvm=[
                "-Djava.awt.headless=true",
                f"-Dphone.home={self.home}",
                f"-Dphone.res={android_app.RES}",
            ],
        )
        screens = found.stdout.split("== ")[1:]
        assert len(screens) == len(actions), found.stdout
        return [screen.splitlines()[1:] for screen in screens]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The stubs, and last the app, compiled against them."""
    reason = kotlin.unavailable()
    if reason is not None:
        pytest.skip(reason)
    return android_app.type_check(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory, app: list[Path]) -> list[Path]:
    return [*android_app.screen_fakes(tmp_path_factory.mktemp("fakes"), app), *app]


@pytest.fixture(scope="module")
def model() -> bytes:
    return to_bytes(tflite_files.classifier(32, 4), CONTRACT, "float32")


@pytest.fixture
def phone(class_path: list[Path], model: bytes, tmp_path: Path) -> Phone:
    made = Phone([*class_path, kotlin.stdlib()], tmp_path)
    made.assets.mkdir()
    (tmp_path / "cache").mkdir()
    (made.assets / "model.tflite").write_bytes(model)
    (made.assets / "contract.json").write_text(CONTRACT.dumps(), encoding="utf-8")
    made.gives(*SURE)
    return made


def text(name: str) -> str:
    """A string of the app."""
    found = android_app.strings()[name]
    return found.replace("\\'", "'").replace('\\"', '"')


def has_answer(screen: Sequence[str]) -> bool:
    return any(line.startswith("Preprocessing ") for line in screen)


PROMPT = ["Take or choose a photograph.", "[Camera]", "[Choose photo]"]


def test_the_answer_panel_shows_all_that_it_should(phone: Phone) -> None:
    """Picture, headline, top three with scientific name and mark, notice, latency line."""
    start, answer = phone.does("start", f"picked:{phone.photograph()}")
    assert start == [*PROMPT, PROMPT[0], text("notice")]
    assert answer[:-1] == [
        "picture 60x40", "[Camera]", "[Choose photo]", "Adder, 71%. Venomous.",
        "icon ic_venomous", "Adder", "Vipera berus", "Venomous", "71%",
        "icon ic_not_venomous", "Grass snake", "Natrix natrix", "Not venomous", "20%",
        "icon ic_not_venomous", "Slow worm", "Anguis fragilis", "Not venomous", "6%",
        text("notice"),
    ]  # fmt: skip
    assert "medical advice" in text("notice")
    latency = answer[-1]
    assert latency.startswith("Preprocessing ") and latency.endswith(", model.tflite")
    assert " ms, inference " in latency and "threads: " in latency


def test_below_the_threshold_it_is_not_sure(phone: Phone) -> None:
    phone.gives(*NOT_SURE)
    (screen,) = phone.does(f"picked:{phone.photograph()}")
    at = screen.index("Not sure")
    assert screen[at + 1] == "No species reaches 50%. The closest:"
    assert [line for line in screen if line in {label.name for label in LABELS}] == [
        "Grass snake",
        "Slow worm",
        "Adder",
    ]
    assert not any(line.startswith("Grass snake,") for line in screen)


def test_an_unknown_venom_is_marked_as_such(phone: Phone) -> None:
    phone.gives(0.1, 0.05, 0.05, 0.8)
    (marked,) = phone.does(f"picked:{phone.photograph()}")
    assert "Something else, 80%. Venom unknown." in marked
    at = marked.index("Something else")
    assert marked[at - 1] == "icon ic_venom_unknown"
    assert marked[at + 1 : at + 3] == ["Venom unknown", "80%"]


def test_another_model_needs_no_code(phone: Phone) -> None:
    """Other labels, size, activation and threshold; of a multi-label model only what is there."""
    labels = (Label("Ringed"), Label("Striped"), Label("Plain"))
    contract = Contract(labels, Preprocessing(48, 48, 48), "sigmoid", not_sure_threshold=0.4)
    data = to_bytes(tflite_files.classifier(48, 3), contract, "float32")
    (phone.assets / "model.tflite").write_bytes(data)
    (phone.assets / "contract.json").write_text(contract.dumps(), encoding="utf-8")
    phone.gives(0.9, 0.41, 0.39)
    (screen,) = phone.does(f"picked:{phone.photograph()}")
    assert screen[3:8] == ["2 found: Ringed, Striped", "Ringed", "90%", "Striped", "41%"]
    assert "Plain" not in screen


def test_several_answers_by_thresholds_of_their_own(phone: Phone) -> None:
    """More than three where they are there; the first one need not be."""
    several = dataclasses.replace(CONTRACT, activation="sigmoid", thresholds=(0.9, 0.2, 0.2, 0.2))
    data = to_bytes(tflite_files.classifier(32, 4), several, "float32")
    (phone.assets / "model.tflite").write_bytes(data)
    (phone.assets / "contract.json").write_text(several.dumps(), encoding="utf-8")
    names = [label.name for label in LABELS]

    def seen(*probabilities: float) -> list[str]:
        phone.gives(*probabilities)
        (screen,) = phone.does(f"picked:{phone.photograph()}")
        return screen[3:]

    every = seen(0.95, 0.3, 0.2, 0.4)
    assert every[:2] == ["4 found: Adder, Something else, Grass snake, Slow worm", "Venomous"]
    assert [line for line in every if line in names] == [names[k] for k in (0, 3, 1, 2)]
    one = seen(0.85, 0.3, 0.1, 0.1)  # the adder is likelier, and not likely enough for an adder
    assert one[0] == "Grass snake, 30%. Not venomous."
    assert [line for line in one if line in names] == ["Grass snake"]
    none = seen(0.85, 0.15, 0.1, 0.1)
    assert none[:2] == ["Not sure", text("not_sure_why_own")]
    assert [line for line in none if line in names] == [names[k] for k in (0, 1, 2)]


def test_rotation_keeps_the_answer_and_the_camera(phone: Phone) -> None:
    photo = phone.photograph()
    answer, turned, _, live, turned_live = phone.does(
        f"picked:{photo}", "rotate", f"camera:{photo}", "permission:given", "rotate"
    )
    assert has_answer(answer) and turned == answer
    assert live[:2] == ["the camera's preview", "[Take photo]"]
    assert turned_live == live


def test_the_photograph_is_judged_again_after_the_process_was_ended(phone: Phone) -> None:
    answer, again = phone.does(f"picked:{phone.photograph()}", "kill")
    assert has_answer(again) and again[:-1] == answer[:-1]
    shutil.rmtree(phone.home / "cache")  # the system may have emptied it
    (phone.home / "cache").mkdir()
    _, live, back = phone.does(f"picked:{phone.photograph()}", "permission:given", "kill")
    assert not has_answer(live) and back[:3] == PROMPT


def test_a_photograph_is_taken(phone: Phone) -> None:
    closed, live, taken, again, other = phone.does(
        f"camera:{phone.photograph()}", "permission:given", *["tap:take_photo"] * 3
    )
    assert closed[:3] == PROMPT
    assert live[0] == "the camera's preview" and not has_answer(live)
    assert taken[0] == "picture 60x40" and has_answer(taken)
    assert again == live and has_answer(other)


def test_a_refused_permission_is_told_and_photographs_can_still_be_chosen(phone: Phone) -> None:
    refused, chosen = phone.does("permission:refused", f"picked:{phone.photograph()}")
    assert text("camera_refused") in refused and "[Choose photo]" in refused
    assert has_answer(chosen)


def test_a_permission_that_was_taken_back_is_asked_for_again(phone: Phone) -> None:
    """Without a word about a camera that is not running."""
    photo = phone.photograph()
    *_, revoked, tapped, given = phone.does(
        f"camera:{photo}", "permission:given", "revoked", "tap:take_photo", "permission:given"
    )
    assert revoked[0] == "the camera's preview"
    assert text("camera_failed") not in tapped and not has_answer(tapped)
    assert given[:2] == ["the camera's preview", "[Take photo]"]


def test_no_camera_and_a_camera_in_use(phone: Phone) -> None:
    (none,) = phone.does("permission:given")
    assert text("no_camera") in none and "[Choose photo]" in none
    *_, busy = phone.does(f"camera:{phone.photograph()}", "camera-busy", "permission:given")
    assert text("no_camera") in busy and "another app has the camera" in busy


@pytest.mark.parametrize(
    "way", ["no model", "compressed", "cut short", "other labels", "other size", "no library"]
)
def test_an_app_put_together_wrongly_says_so(phone: Phone, way: str) -> None:
    """Nothing can be tapped, and a photograph that arrives late changes nothing."""
    model, contract = phone.assets / "model.tflite", json.loads(CONTRACT.dumps())
    expected, detail = {
        "no model": ("no_model", None),
        "compressed": ("model_compressed", None),
        "cut short": ("model_refused", "damaged"),
        "other labels": ("model_refused", "calls class 0 'Adder', the contract calls it 'Viper'"),
        "other size": ("model_refused", "the model takes [1, 32, 32, 3], the contract says"),
        "no library": (
            "runtime_failed",
            "no liblitert for this processor (the model needs TFLite 1.1",
        ),
    }[way]
    if way == "no model":
        model.unlink()
    elif way == "compressed":
        model.with_name("model.tflite.compressed").touch()
    elif way == "cut short":
        model.write_bytes(model.read_bytes()[:1000])
    elif way == "other labels":
        contract["labels"][0]["name"] = "Viper"
    elif way == "other size":
        contract["input"]["height"] = 16
    else:
        (phone.home / "no_native_library").touch()
    contract.pop("label_hash")
    (phone.assets / "contract.json").write_text(json.dumps(contract), encoding="utf-8")
    start, late = phone.does("start", f"killed-then-picked:{phone.photograph()}")
    assert text(expected) in start
    assert {"(Camera)", "(Choose photo)"} <= set(start)
    assert detail is None or any(detail in line for line in start), start
    assert late == start


def test_what_is_no_photograph_is_told(phone: Phone) -> None:
    letter = phone.home / "letter.txt"
    letter.write_text("Dear all,")
    thin = phone.photograph(1, 51)
    gone = phone.home / "gone.png"
    no_picture, elongated, missing, good = phone.does(
        f"picked:{letter}", f"picked:{thin}", f"picked:{gone}", f"picked:{phone.photograph()}"
    )
    assert text("no_picture") in no_picture and "[Choose photo]" in no_picture
    assert text("unreadable") in elongated and any("too elongated" in line for line in elongated)
    assert text("unreadable") in missing
    assert has_answer(good)


def test_a_model_that_gives_no_probabilities_is_told(phone: Phone) -> None:
    phone.gives(0.2, float("nan"), 0.3, 0.5)
    (screen,) = phone.does(f"picked:{phone.photograph()}")
    assert text("model_refused") in screen and not has_answer(screen)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("MainActivity.kt", "if (present.isEmpty()) {", "if (present.isNotEmpty()) {"),
        ("MainActivity.kt", "latency.text = measured(result)", "measured(result)"),
        ("VenomMark.kt", "Venomous.NO -> NOT_VENOMOUS", "Venomous.NO -> NOT_KNOWN"),
    ],
    ids=["sure", "latency", "mark"],
)
def test_a_mistake_is_seen(
    phone: Phone, app: list[Path], tmp_path: Path, name: str, right: str, wrong: str
) -> None:
    sources = tmp_path / "kotlin"
    shutil.copytree(android_app.MAIN / "kotlin", sources)
    (changed,) = sources.rglob(name)
    code = changed.read_text(encoding="utf-8")
    assert right in code
    changed.write_text(code.replace(right, wrong), encoding="utf-8")
    phone.class_path.insert(0, kotlin.compile([sources], app[:-1]))
    with pytest.raises(AssertionError):
        test_the_answer_panel_shows_all_that_it_should(phone)
