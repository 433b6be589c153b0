"""adb as a few calls with timeouts, whose failures say what to do about them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from models.errors import UserError

SHORT_S = 30.0  # a question
TRANSFER_S = 300.0  # a file
_EXIT = "EXPORTER_EXIT="
_FAULTS = {
    "unauthorized": ("it has not allowed this computer to debug it",
                     "unlock it and accept 'Allow USB debugging'"),
    "offline": ("it does not answer adb",
                "unlock it, replug the cable, or run 'adb kill-server' and try again"),
    "no permissions": ("this user may not open its USB port",
                       "install the system's udev rules for Android (on Debian: "
                       "android-sdk-platform-tools-common), replug the cable"),
    "authorizing": ("it is still deciding whether to trust this computer",
                    "unlock it and accept 'Allow USB debugging'"),
    "recovery": ("it is in recovery mode", "start Android on it"),
    "sideload": ("it is in sideload mode", "start Android on it"),
    "bootloader": ("it is in its boot loader", "start Android on it"),
}  # fmt: skip
_PLUG_IN = "connect one with USB debugging switched on; 'adb devices' has to list it"


class AdbError(UserError):
    """adb, or the device behind it, did not do what was asked."""


@dataclass(frozen=True)
class Attached:
    """A line of `adb devices`: the serial and its state ('device' when it can be used)."""

    serial: str
    state: str


@dataclass(frozen=True)
class Answer:
    """What a command on the device printed (stdout and stderr together) and its exit code."""

    text: str
    code: int


def find_adb() -> str:
    """The adb program: on PATH, else in the SDK that ANDROID_HOME names.

    Raises:
        AdbError: there is none.
    """
    found = shutil.which("adb")
    if found is not None:
        return found
    for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        home = os.environ.get(variable)
        beside = shutil.which("adb", path=str(Path(home) / "platform-tools")) if home else None
        if beside is not None:
            return beside
    raise AdbError(
        "adb was not found.",
        "it is neither on PATH nor in the platform-tools of ANDROID_HOME",
        "install Android's platform-tools (on Debian: apt install adb)",
    )


def attached(adb: str, timeout: float = SHORT_S) -> tuple[Attached, ...]:
    """Every device that `adb devices` lists, usable or not."""
    lines = _call([adb, "devices"], timeout).splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("List of devices")), None)
    if start is None:
        raise AdbError(
            "'adb devices' answered something else.",
            _tail("\n".join(lines)) or "it printed nothing",
            "run 'adb devices' by hand; 'adb kill-server' often helps",
        )
    found = []
    for line in lines[start + 1 :]:
        serial, _, state = line.partition("\t") if "\t" in line else line.partition(" ")
        if serial.strip() and not line.startswith("*"):
            found.append(Attached(serial.strip(), state.strip()))
    return tuple(found)


def choose(found: tuple[Attached, ...], serial: str | None) -> str:
    """The serial of the device to use.

    Raises:
        AdbError: none is attached, several are and none was named, the named one is
            missing, or the one found cannot be used (unauthorized, offline, ...).
    """
    if serial is not None:
        named = next((one for one in found if one.serial == serial), None)
        if named is None:
            listed = ", ".join(one.serial for one in found) or "none"
            raise AdbError(
                f"No device {serial} is attached.", f"adb lists: {listed}", "correct --serial"
            )
        return _usable(named)
    if not found:
        raise AdbError("No Android device is attached.", "'adb devices' lists none", _PLUG_IN)
    ready = [one for one in found if one.state == "device"]
    if len(ready) > 1:
        raise AdbError(
            f"{len(ready)} Android devices are attached.",
            ", ".join(one.serial for one in ready),
            f"name one, e.g. --serial {ready[0].serial}",
        )
    return _usable(ready[0] if ready else found[0])


def _usable(one: Attached) -> str:
    if one.state == "device":
        return one.serial
    for word, (why, mend) in _FAULTS.items():
        if one.state.startswith(word):
            raise AdbError(f"The device {one.serial} cannot be used.", why, mend)
    raise AdbError(
        f"The device {one.serial} cannot be used.", f"adb calls it '{one.state}'", _PLUG_IN
    )


class Device:
    """One attached device.

    Args:
        adb: the program, see `find_adb`.
        serial: which device, see `choose`.
    """

    def __init__(self, adb: str, serial: str) -> None:
        self.serial = serial
        self._prefix = [adb, "-s", serial]

    def shell(self, *words: str, timeout: float = SHORT_S) -> Answer:
        """Run a program on the device; every word reaches it as it is, whatever is in it."""
        return self.script(shlex.join(words), timeout)

    def script(self, text: str, timeout: float = SHORT_S) -> Answer:
        """Run lines of shell on the device.

        The exit code is printed by the device's shell itself, since adb hands it on
        only from Android 7 on; a missing one means that the connection broke.

        Raises:
            AdbError: adb failed, took too long, or the connection broke.
        """
        printed = _call(
            [*self._prefix, "shell", f"{{ {text}\n}} 2>&1; echo {_EXIT}$?"], timeout
        ).replace("\r\n", "\n")
        ending = re.search(rf"^(.*?)\n?{_EXIT}(\d+)\s*\Z", printed, re.DOTALL)
        if ending is None:
            raise AdbError(
                f"The connection to {self.serial} broke.",
                _tail(printed) or "the command did not come to its end",
                "check the cable, keep the device awake, try again",
            )
        return Answer(ending.group(1), int(ending.group(2)))

    def push(self, local: Path, remote: str, timeout: float = TRANSFER_S) -> None:
        """Copy a file to the device.

        Raises:
            AdbError: it did not arrive.
        """
        _call([*self._prefix, "push", str(Path(local).resolve()), remote], timeout)

    def pull(self, remote: str, local: Path, timeout: float = TRANSFER_S) -> None:
        """Copy a file from the device.

        Raises:
            AdbError: it did not arrive.
        """
        _call([*self._prefix, "pull", remote, str(Path(local).resolve())], timeout)


def _call(words: list[str], timeout: float) -> str:
    """Run adb; what it printed to stdout."""
    what = f"adb {words[3] if words[1] == '-s' else words[1]}"
    try:
        done = subprocess.run(
            words, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise AdbError(
            f"'{what}' did not end within {timeout:g} s.",
            "the device does not answer, or what runs there is stuck",
            "unlock the device, replug it, run 'adb kill-server' and try again",
        ) from error
    except OSError as error:
        raise AdbError(
            "adb cannot be started.", error.strerror or str(error), "install it again"
        ) from error
    out, said = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    silent_shell = what == "adb shell" and not said.strip()  # told by the missing exit code
    if done.returncode != 0 and _EXIT not in out and not silent_shell:
        _explain(what, said + out)
    return out


def _explain(what: str, said: str) -> None:
    for word, (why, mend) in _FAULTS.items():
        if word in said:
            raise AdbError(f"'{what}' failed.", why, mend)
    mends = {
        "No space left": "make room on the device",
        "not found": _PLUG_IN,
        "no devices": _PLUG_IN,
        "more than one device": "name one with --serial",
    }
    mend = next((text for word, text in mends.items() if word in said), "try it by hand")
    raise AdbError(f"'{what}' failed.", _tail(said) or "it gave no reason", mend)


def _tail(text: str, lines: int = 3) -> str:
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(kept[-lines:])[:400]
