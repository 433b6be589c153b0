"""Fetching the ARM64 system: Debian's Python and LiteRT's ARM64 wheel, side by side.

Nothing is installed and no rights are needed: Debian packages and wheels are downloaded by
their own clients, checked by them, and unpacked into one folder of the user's cache.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from exporter import fetched
from exporter.prove.runtimes.litert_arm64 import apt, selfcheck
from exporter.prove.runtimes.litert_arm64.layout import CPU, CPU_NAME, Layout, cpuinfo
from exporter.prove.runtimes.litert_arm64.machine import Machine, RefusedError, StoppedError
from exporter.prove.runtimes.tools import built, call
from models.errors import UserError

Progress = Callable[[str], None]

_REVISION = 1  # of what `fetch` makes; an older one is not used any more
_ROOM = 600_000_000  # bytes while it is built; what stays is a quarter
_WHAT = "The ARM64 system cannot be set up."
_REQUESTED = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "zlib1g")
# Of the packages that these need, those with what the interpreter loads. Their libraries
# for databases, terminals, Kerberos and TLS are left out.
_NEEDED = re.compile(
    r"libc6|libgcc-s1|libstdc\+\+6|zlib1g|libexpat1|libffi\d+|"
    r"python3\.\d+-minimal|libpython3\.\d+-(?:minimal|stdlib)"
)
_PYTHON = re.compile(r"python3\.(\d+)-minimal")
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")
_EMULATORS = (
    "qemu-aarch64-static",
    "qemu-aarch64",
)  # Debian's name for the static one, or since 13
_LEFT_OUT = (
    "root/usr/share",
    "root/usr/lib/aarch64-linux-gnu/gconv",
    "root/usr/lib/python3*/test",
    "root/usr/lib/python3*/pydoc_data",
    "packages/ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "packages/numpy/**/tests",
    "packages/numpy/f2py",
    "packages/numpy/_core/include",
    "packages/numpy/_core/lib",
)


def place() -> Path:
    """Where the system for the installed LiteRT lies, whether it is there or not."""
    version = importlib.metadata.version("ai-edge-litert")
    return fetched.folder(f"arm64-litert-{version}-{_REVISION}")


def installed() -> Path | None:
    """The system's folder; None where it was not fetched yet. Starts no process."""
    home = place()
    return None if Layout(home).read_stamp() is None else home


def unsupported() -> str | None:
    """Why this machine cannot have it, in a few words; None if it can."""
    if platform.machine() in ("aarch64", "arm64"):
        return "this machine is ARM64 itself: the runtime litert runs those kernels"
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        return "it needs Linux on x86-64"
    return None


def fetch(progress: Progress | None = None) -> Path:
    """Build the system anew: about 10 seconds, 40 MB to download, 120 MB on disk.

    It appears in one step; an older one stays until then. At the end a network with a
    known answer is run in it.

    Args:
        progress: told in a few words what happens next.

    Returns:
        Its folder.

    Raises:
        UserError: this is no Debian-like Linux on x86-64, packages cannot be reached, the
            disk is full, or what was built computes wrongly.
    """
    say = progress or (lambda _: None)
    reason = unsupported()
    if reason is None and apt.missing():
        reason = f"{apt.missing()} is not here: it needs a Debian-like Linux"
    if reason:
        raise UserError(_WHAT, reason, "use Debian 12 or later on x86-64, in a container say")
    home = place()
    with built(home, _WHAT, _ROOM) as folder:
        _build(folder, say)
    say(f"done: {home}")
    return home


def _build(home: Path, say: Progress) -> None:
    layout = Layout(home)
    work = home / "work"
    for folder in (work, layout.root, layout.packages, layout.emulator.parent):
        folder.mkdir()
    say("reading apt's package lists for arm64")
    packages = _unpack_python(work, layout, say)
    say("looking for QEMU")
    _place_emulator(work, layout, say)
    say("downloading LiteRT and numpy for ARM64")
    _place_wheels(work, layout, packages)
    shutil.rmtree(work)
    _thin_out(home)
    say("trying it")
    versions = _try(layout)
    stamp = {
        "litert": importlib.metadata.version("ai-edge-litert"),
        "emulator": _emulator_version(layout),
        "cpu": CPU,
        "packages": packages,
        **versions,
    }
    layout.stamp.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


def _unpack_python(work: Path, layout: Layout, say: Progress) -> dict[str, str]:
    """Python and the C library from Debian's arm64 packages; their names and versions."""
    (work / "arm64").mkdir()
    private = apt.PrivateApt(work / "arm64", "arm64")
    private.update()
    closure = private.closure(*_REQUESTED)
    packages = {name: closure[name] for name in closure if _NEEDED.fullmatch(name)}
    say(f"downloading Python 3.{_minor(packages)} for arm64")
    private.unpack(packages, layout.root)
    if not layout.python.exists():
        layout.python.symlink_to(f"python3.{_minor(packages)}")
    # Where /lib is /usr/lib, the packages have the latter only, and programs name the former.
    if not (layout.root / "lib").exists():
        (layout.root / "lib").symlink_to("usr/lib")
    (layout.root / "proc").mkdir()
    (layout.root / "proc" / "cpuinfo").write_text(cpuinfo(), encoding="ascii")
    return packages


def _minor(packages: dict[str, str]) -> int:
    """The minor version of the Python among the packages."""
    for name in packages:
        if match := _PYTHON.fullmatch(name):
            return int(match[1])
    raise UserError(_WHAT, "apt's python3 for arm64 is no Python 3", "use Debian 12 or later")


def _place_emulator(work: Path, layout: Layout, say: Progress) -> None:
    """A copy of the machine's static QEMU, else of that in Debian's package."""
    system = shutil.which(_EMULATORS[0])
    if system is not None:
        shutil.copy2(system, layout.emulator)
        return
    say("downloading QEMU")
    (work / "amd64").mkdir()
    private = apt.PrivateApt(work / "amd64", "amd64")
    private.update()
    for package in ("qemu-user-static", "qemu-user"):
        unpacked = work / package
        unpacked.mkdir()
        private.unpack({package: private.closure(package)[package]}, unpacked)
        for name in _EMULATORS:
            program = unpacked / "usr" / "bin" / name
            if program.is_file():  # Debian 13 has a link into the other package
                shutil.copy2(program, layout.emulator)
                return
    raise UserError(_WHAT, "apt's QEMU has no qemu-aarch64", "install qemu-user-static")


def _place_wheels(work: Path, layout: Layout, packages: dict[str, str]) -> None:
    """LiteRT in the version that is installed here, and numpy, in their ARM64 builds.

    LiteRT's other requirements are for its converters; the interpreter imports none.
    """
    litert, numpy = (importlib.metadata.version(name) for name in ("ai-edge-litert", "numpy"))
    platforms = [f"--platform={name}_aarch64" for name in _PLATFORMS]
    wheels = work / "wheels"
    call(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", f"--dest={wheels}", *platforms),
            *(f"--python-version=3.{_minor(packages)}", "--implementation=cp"),
            *(f"ai-edge-litert=={litert}", f"numpy<={numpy}"),
        ],
        "The ARM64 wheels of LiteRT and numpy cannot be downloaded.",
        f"see that '{sys.executable} -m pip download ai-edge-litert' works, then try again",
    )
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(layout.packages)


def _thin_out(home: Path) -> None:
    """Remove what is never loaded."""
    for pattern in _LEFT_OUT:
        for path in sorted(home.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _try(layout: Layout) -> dict[str, str]:
    """Run the network whose answer is known; versions of what ran."""
    try:
        with contextlib.closing(Machine(layout, write_bytecode=True)) as machine:
            versions = machine.versions()
            check(machine)
    except (RefusedError, StoppedError) as error:
        raise UserError(
            "The ARM64 system was fetched, but does not run.",
            str(error),
            "report it with the output of 'exporter doctor'",
        ) from error
    return versions


def check(machine: Machine) -> None:
    """Hold an emulated int8 network against its known answer.

    Raises:
        UserError: it differs.
        RefusedError, StoppedError: it does not run.
    """
    made = machine.run(machine.open(selfcheck.model()), selfcheck.given())
    differing = int((made != selfcheck.answer()).sum())
    if differing:
        raise UserError(
            "The emulated ARM64 system computes wrongly.",
            f"{differing} of {made.size} numbers differ in a small int8 network of known answer",
            f"use another QEMU (7.2 with its {CPU_NAME} is right), then fetch the system anew",
        )


def _emulator_version(layout: Layout) -> str:
    said = call([layout.emulator, "--version"], "QEMU does not start.", "install qemu-user-static")
    match = re.search(r"version (\d+(?:\.\d+)+)", said)
    return match[1] if match else "unknown"
