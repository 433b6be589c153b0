"""android_demo's XML: sound, nothing named that is not there, no network; what aapt2 says of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from android.stubs import android_app
from android.stubs.android_app import ANDROID, APP_SOURCES, DEMO, MAIN, RES

TOOLS = "{http://schemas.android.com/tools}"
MANIFEST = MAIN / "AndroidManifest.xml"
# Android 10's resources, of Debian's package android-framework-res: enough for what the app names
FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
AAPT2 = shutil.which("aapt2")
needs_aapt2 = pytest.mark.skipif(AAPT2 is None, reason="aapt2 is not installed (package aapt)")
needs_framework = pytest.mark.skipif(
    not FRAMEWORK.is_file(), reason="no framework to link against (package android-framework-res)"
)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(AAPT2), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def compiled(res: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return run("compile", "--dir", res, "-o", out)


def linked(res: Path, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Compile and link; the result of the step that failed, or of the last one."""
    first = compiled(res, scratch / "res.zip")
    if first.returncode != 0:
        return first
    text = MANIFEST.read_text(encoding="utf-8")
    package = f'<manifest package="{android_app.PACKAGE}"'
    (scratch / "AndroidManifest.xml").write_text(text.replace("<manifest", package, 1))
    return run(
        "link", "-I", FRAMEWORK, "--manifest", scratch / "AndroidManifest.xml",
        "--min-sdk-version", "24", "--target-sdk-version", "29", "--java", scratch / "java",
        "-o", scratch / "app.apk", scratch / "res.zip",
    )  # fmt: skip


def test_what_xml_names_exists() -> None:
    there = android_app.declared()
    named = list(android_app.referenced([*android_app.xml_files(), MANIFEST]))
    assert len(named) > 20
    assert [entry for entry in named if entry[1:] not in there] == []


def test_a_missing_string_is_seen(tmp_path: Path) -> None:
    res = tmp_path / "res"
    shutil.copytree(RES, res)
    strings = res / "values" / "strings.xml"
    text = strings.read_text(encoding="utf-8")
    strings.write_text(text.replace('name="choose_photo"', 'name="choose_foto"'))
    missing = [
        (kind, name)
        for _, kind, name in android_app.referenced(android_app.xml_files(res))
        if (kind, name) not in android_app.declared(res)
    ]
    assert missing == [("string", "choose_photo")]


def test_every_string_and_colour_is_used() -> None:
    used = {(kind, name) for _, kind, name in android_app.referenced(
        [*android_app.xml_files(), MANIFEST])}  # fmt: skip
    code = "".join(
        path.read_text(encoding="utf-8") for folder in APP_SOURCES for path in folder.rglob("*.kt")
    )
    used |= set(re.findall(r"R\.([a-z]+)\.([a-z_0-9]+)", code))
    values = {entry for entry in android_app.declared() if entry[0] in ("string", "color")}
    assert values - used == set()


def test_portrait_and_landscape_have_the_same_views() -> None:
    def views(folder: str) -> set[str]:
        root = ET.parse(RES / folder / "activity_main.xml").getroot()
        names = (element.attrib.get(f"{ANDROID}id") for element in root.iter())
        return {name for name in names if name} | {
            element.attrib["layout"] for element in root.iter("include")
        }

    assert views("layout") == views("layout-land")


def test_pictures_have_a_description_and_the_answer_is_announced() -> None:
    announced = []
    for path in android_app.xml_files():
        for element in ET.parse(path).getroot().iter():
            if element.tag.endswith(("ImageView", "PreviewView", "ProgressBar")):
                described = element.attrib.get(f"{ANDROID}contentDescription")
                hidden = element.attrib.get(f"{ANDROID}importantForAccessibility") == "no"
                assert described or hidden, f"{path.name}: {element.attrib}"
            if f"{ANDROID}accessibilityLiveRegion" in element.attrib:
                announced.append(element.attrib[f"{ANDROID}id"])
    assert announced == ["@+id/headline"]


def test_text_grows_with_the_users_font() -> None:
    for path in android_app.xml_files():
        for element in ET.parse(path).getroot().iter():
            size = element.attrib.get(f"{ANDROID}textSize", "1sp")
            assert size.endswith("sp"), path
            if element.tag in ("TextView", "Button"):
                height = element.attrib[f"{ANDROID}layout_height"]
                assert height in ("wrap_content", "match_parent", "0dp"), path


def test_every_colour_has_enough_contrast() -> None:
    """4.5 to 1 on the theme's own ground (Material: #FAFAFA, #303030), as WCAG AA asks."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    for folder, ground in (("values", "#FAFAFA"), ("values-night", "#303030")):
        root = ET.parse(RES / folder / "colors.xml").getroot()
        colors = {entry.attrib["name"]: str(entry.text) for entry in root}
        for name in ("danger", "harmless", "unknown"):
            assert contrast(colors[name], ground) >= 4.5, f"{folder}: {name}"
        assert contrast(colors["notice_text"], colors["notice_ground"]) >= 4.5


def test_no_network_and_no_other_permission() -> None:
    root = ET.parse(MANIFEST).getroot()
    asked, removed = set(), set()
    for entry in root.iter("uses-permission"):
        name = entry.attrib[f"{ANDROID}name"].removeprefix("android.permission.")
        (removed if entry.attrib.get(f"{TOOLS}node") == "remove" else asked).add(name)
    assert asked == {"CAMERA"}
    assert removed == {"INTERNET", "ACCESS_NETWORK_STATE"}
    code = "".join(path.read_text() for path in (MAIN / "kotlin").rglob("*.kt"))
    assert not re.search(r"java\.net\.|HttpURL|Socket|okhttp", code)


def test_the_activity_of_the_manifest_exists() -> None:
    names = [e.attrib[f"{ANDROID}name"] for e in ET.parse(MANIFEST).getroot().iter("activity")]
    for name in names:
        path = MAIN / "kotlin" / android_app.PACKAGE.replace(".", "/") / f"{name[1:]}.kt"
        assert f"class {name[1:]} :" in path.read_text(encoding="utf-8")
    assert names == [".MainActivity"]


def test_the_version_catalog_and_the_scripts_agree() -> None:
    catalog = tomllib.loads((DEMO / "gradle" / "libs.versions.toml").read_text(encoding="utf-8"))
    known = {name.replace("-", ".") for name in catalog["libraries"]}
    known |= {f"plugins.{name.replace('-', '.')}" for name in catalog["plugins"]}
    text = "".join(path.read_text(encoding="utf-8") for path in DEMO.rglob("*.kts"))
    used = set(re.findall(r"\blibs\.([A-Za-z0-9.]+)", text)) - {"versions"}
    assert used == known
    sdks = set(re.findall(r"\bsdk\.(\w+)\.get", text))
    assert sdks == {"compileSdk", "minSdk", "targetSdk"} <= set(catalog["versions"])
    for entry in [*catalog["libraries"].values(), *catalog["plugins"].values()]:
        assert entry["version"]["ref"] in catalog["versions"]
    assert catalog["versions"]["minSdk"] == "24"


def test_the_build_keeps_what_the_phone_needs() -> None:
    script = (DEMO / "app" / "build.gradle.kts").read_text(encoding="utf-8")
    assert 'noCompress += "tflite"' in script
    assert "useLegacyPackaging = false" in script
    ignored = (DEMO / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"app/src/main/assets/", "app/src/androidTest/assets/", "build/"} <= set(ignored)


@needs_aapt2
def test_aapt2_compiles_every_resource(tmp_path: Path) -> None:
    done = compiled(RES, tmp_path / "res.zip")
    assert done.returncode == 0, done.stderr


@needs_aapt2
@needs_framework
def test_aapt2_links_them_and_our_r_class_is_its_own(tmp_path: Path) -> None:
    done = linked(RES, tmp_path)
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "java" / android_app.PACKAGE.replace(".", "/") / "R.java").read_text()
    theirs, kind = set(), ""
    for line in made.splitlines():
        if opened := re.search(r"static final class (\w+)", line):
            kind = opened[1]
        elif field := re.search(r"static final int (\w+)=", line):
            theirs.add((kind, field[1]))
    assert theirs == android_app.declared()


@needs_aapt2
@needs_framework
def test_a_device_without_a_camera_may_have_the_app(tmp_path: Path) -> None:
    """The store offers an app only to devices with all that it requires, named or implied."""
    assert linked(RES, tmp_path).returncode == 0
    said = run("dump", "badging", tmp_path / "app.apk").stdout
    required = re.findall(r"uses-(?:implied-)?feature: name='([^']+)'", said)
    assert [name for name in required if "camera" in name] == []
    assert required  # every app implies a touch screen


@needs_aapt2
@needs_framework
@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("values/strings.xml", 'name="prompt"', 'name="promt"'),
        ("layout/answer_panel.xml", "android:minHeight", "android:minimalHeight"),
        ("values/themes.xml", "Theme.Material.Light.NoActionBar", "Theme.Material.NoSuchBar"),
    ],
)
def test_aapt2_sees_a_mistake(tmp_path: Path, file: str, right: str, wrong: str) -> None:
    res = tmp_path / "res"
    shutil.copytree(RES, res)
    text = (res / file).read_text(encoding="utf-8")
    assert right in text
    (res / file).write_text(text.replace(right, wrong), encoding="utf-8")
    assert linked(res, tmp_path).returncode != 0
