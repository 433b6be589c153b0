"""android_demo/app against stubs: does it compile, and would a mistake be seen?

The unit test of the app is plain Kotlin and is run; the screen is run in test_app_screen.py.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from android.stubs import android_app
from support import kotlin

SOURCE = android_app.MAIN / "kotlin" / "com" / "example" / "classifier"
# file, what stands there, what a tired person writes, what the compiler has to complain of
MUTANTS = [
    ("LoadedModel.kt", ".setNumThreads(", ".setNumThread(", "setNumThread"),
    ("Photo.kt", "?: throw NoPictureException()", "", "nullable"),
    ("MainActivity.kt", "R.string.latency", "R.string.latencies", "latencies"),
    ("Camera.kt", "initialized.get()", "initialized.got()", "got"),
    ("VenomMark.kt", "                Venomous.UNKNOWN -> NOT_KNOWN\n", "", "exhaustive"),
    ("ClassifierViewModel.kt", "R.string.too_large)", '"too large")', "mismatch"),
]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    reason = kotlin.unavailable()
    if reason is not None:
        pytest.skip(reason)
    if not android_app.CORE_SOURCES.is_dir():
        pytest.skip("android_demo/core has no sources")


@pytest.fixture(scope="module")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return android_app.type_check(tmp_path_factory.mktemp("app"))


def test_app_and_its_tests_compile(class_path: list[Path]) -> None:
    with zipfile.ZipFile(class_path[-1]) as jar:
        names = {name.rpartition("/")[2] for name in jar.namelist()}
    assert {"MainActivity.class", "PhotoSizeTest.class", "GoldenReplayTest.class"} <= names


def test_the_unit_test_passes(class_path: list[Path]) -> None:
    result = kotlin.run_junit(class_path, ["com.example.classifier.PhotoSizeTest"])
    assert result.failures == 0, result.output
    assert result.tests == 4


@pytest.mark.parametrize(
    ("name", "right", "wrong", "complaint"), MUTANTS, ids=[f"{m[0]}-{m[3]}" for m in MUTANTS]
)
def test_a_mistake_is_seen(
    class_path: list[Path], tmp_path: Path, name: str, right: str, wrong: str, complaint: str
) -> None:
    copy = tmp_path / "classifier"
    shutil.copytree(SOURCE, copy)
    text = (copy / name).read_text(encoding="utf-8")
    assert right in text
    (copy / name).write_text(text.replace(right, wrong), encoding="utf-8")
    with pytest.raises(kotlin.KotlinError, match="does not compile") as caught:
        kotlin.compile([copy], class_path[:-1])
    assert complaint in str(caught.value)


def test_ktlint_has_no_complaint() -> None:
    reason = kotlin.ktlint_unavailable()
    if reason is not None:
        pytest.skip(reason)
    scripts = sorted(android_app.DEMO.rglob("*.kts"))
    found = kotlin.ktlint([*android_app.APP_SOURCES, *scripts, android_app.STUBS])
    assert found == []


def test_every_stub_says_that_it_is_one() -> None:
    stubs = [path for path in android_app.STUBS.rglob("*") if path.suffix in (".java", ".kt")]
    assert len(stubs) > 40
    for path in stubs:
        head = path.read_text(encoding="utf-8").splitlines()[0]
        assert head.startswith(("// Stub:", "// Stubs:", "// Fake:", "// Driver:")), path


def test_litert_is_named_in_one_file_only() -> None:
    naming = [
        path.name
        for path in SOURCE.rglob("*.kt")
        if "org.tensorflow.lite" in path.read_text(encoding="utf-8")
    ]
    assert naming == ["LoadedModel.kt"]
