"""Type-check android_demo without Google's SDK: the stubs beside this file, and an R class.

The stubs hold just the classes and methods that the app uses, with the nullability of the
real ones. They prove our spelling, types and null checks; not Google's behaviour.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

from support import kotlin

STUBS = Path(__file__).parent
DEMO = STUBS.parents[2] / "android_demo"
MAIN = DEMO / "app" / "src" / "main"
RES = MAIN / "res"
APP_SOURCES = (
    MAIN / "kotlin",
    DEMO / "app" / "src" / "test" / "kotlin",
    DEMO / "app" / "src" / "androidTest" / "kotlin",
)
CORE_SOURCES = DEMO / "core" / "src" / "main"
ANDROID = "{http://schemas.android.com/apk/res/android}"
PACKAGE = "com.example.classifier"
_REFERENCE = re.compile(r"@(?!android:)(\+?)([a-z]+)/([A-Za-z0-9_.]+)")


def xml_files(res: Path = RES) -> list[Path]:
    """Every resource file, sorted."""
    return sorted(res.rglob("*.xml"))


def declared(res: Path = RES) -> set[tuple[str, str]]:
    """The resources that a folder declares, as (type, name): ('string', 'app_name').

    Raises:
        ET.ParseError: a file is not well-formed XML.
    """
    found: set[tuple[str, str]] = set()
    for path in xml_files(res):
        kind = path.parent.name.split("-")[0]
        root = ET.parse(path).getroot()
        if kind == "values":
            found |= {(entry.tag, entry.attrib["name"]) for entry in root}
        else:
            found.add((kind, path.stem))
            ids = (element.attrib.get(f"{ANDROID}id", "") for element in root.iter())
            found |= {("id", name.split("/")[1]) for name in ids if name.startswith("@+id/")}
    return found


def referenced(files: Sequence[Path]) -> Iterator[tuple[Path, str, str]]:
    """What XML files name with '@type/name', as (file, type, name); the system's left out."""
    for path in files:
        for element in ET.parse(path).getroot().iter():
            for text in [*element.attrib.values(), element.text or ""]:
                for plus, kind, name in _REFERENCE.findall(text):
                    if not plus:
                        yield path, kind, name


def r_class(resources: set[tuple[str, str]]) -> str:
    """Java source of the R class that the Android Gradle plugin would make."""
    lines = [f"package {PACKAGE};", "", "public final class R {"]
    for kind in sorted({kind for kind, _ in resources}):
        lines.append(f"    public static final class {kind} {{")
        names = sorted(name for other, name in resources if other == kind)
        lines += [
            f"        public static int {name.replace('.', '_')} = {number};"
            for number, name in enumerate(names, 1)
        ]
        lines.append("    }")
    return "\n".join([*lines, "}", ""])


def stub_classes(folder: Path, resources: set[tuple[str, str]]) -> Path:
    """Compile the Java stubs and an R class into `folder`.

    Raises:
        kotlin.KotlinError: javac refuses them.
    """
    folder.mkdir(parents=True)
    source = folder.parent / "R.java"
    source.write_text(r_class(resources), encoding="utf-8")
    files = [*sorted((STUBS / "java").rglob("*.java")), source]
    junit = ":".join(map(str, kotlin.JUNIT))
    options = ["-nowarn", "--release", "8", "-Xlint:-options", "-cp", junit, "-d", str(folder)]
    done = subprocess.run(
        [shutil.which("javac") or "javac", *options, *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise kotlin.KotlinError(f"the stubs do not compile:\n{done.stdout}{done.stderr}")
    return folder


def strings() -> dict[str, str]:
    """The app's texts by name, as they stand in the XML."""
    root = ET.parse(RES / "values" / "strings.xml").getroot()
    return {entry.attrib["name"]: entry.text or "" for entry in root}


def javac(files: Sequence[Path], out: Path, class_path: Sequence[Path] = ()) -> Path:
    """Compile Java for this JDK into the folder `out`.

    Raises:
        kotlin.KotlinError: javac refuses it.
    """
    out.mkdir(parents=True, exist_ok=True)
    program = [shutil.which("javac") or "javac", "-nowarn", "-d", str(out)]
    if class_path:
        program += ["-cp", ":".join(map(str, class_path))]
    done = subprocess.run([*program, *map(str, files)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise kotlin.KotlinError(f"the fakes do not compile:\n{done.stdout}{done.stderr}")
    return out


def bitmap_fakes(out: Path) -> Path:
    """Android's bitmap classes over a desktop's Java, compiled into the folder `out`."""
    return javac(sorted((STUBS / "fakes").rglob("*.java")), out)


def screen_fakes(scratch: Path, app: Sequence[Path]) -> list[Path]:
    """What runs the whole app: fakes of the views, the camera, LiteRT, the activity's life.

    Args:
        scratch: an empty folder.
        app: what `type_check` returned; its stubs are behind the fakes on the class path.

    Returns:
        what has to stand in front of `app` on the class path.

    Raises:
        kotlin.KotlinError: something does not compile.
    """
    bitmaps = bitmap_fakes(scratch / "bitmaps")
    files = sorted((STUBS / "screen").rglob("*.java"))
    views = javac(files, scratch / "views", [bitmaps, *app])
    front = [views, bitmaps]
    front.insert(0, kotlin.compile([STUBS / "screen"], [*front, *app], jdk_release=None))
    return front


def type_check(
    scratch: Path,
    sources: Sequence[Path] = APP_SOURCES,
    core: Sequence[Path] = (CORE_SOURCES,),
) -> list[Path]:
    """Compile the app, its unit test and its instrumented test against the stubs.

    Args:
        scratch: an empty folder for what is made on the way.
        sources: Kotlin files or folders of the app.
        core: Kotlin files or folders of the core module.

    Returns:
        the class path with everything on it.

    Raises:
        kotlin.KotlinError: something does not compile; a warning counts too.
    """
    classes = stub_classes(scratch / "classes", declared())
    path = [classes, kotlin.compile(core), *kotlin.JUNIT]
    path.append(kotlin.compile([STUBS / "kotlin"], path))
    path.append(kotlin.compile(sources, path))
    return path
