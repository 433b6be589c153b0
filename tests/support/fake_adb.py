"""A stand-in for adb with one Android device behind it, for tests without a phone.

Run as `adb` (see `install`). What the client asks to run on the device really runs, in
`sh`, inside a sandbox folder that stands for /data/local/tmp; `getprop` and `dumpsys`
are played back, and `benchmark_model` is `fake_benchmark.py`. Every call is recorded.
It proves what we send and how we read the answers, not that a device answers so.

The folder named by FAKE_ADB holds scenario.json (see `Scenario`), calls.jsonl,
thermal.count and tmp/, the sandbox.
"""

# ruff: noqa: T201 - a program prints

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

DEVICE_TMP = "/data/local/tmp"
PIXEL = {
    "ro.product.manufacturer": "Google",
    "ro.product.model": "Pixel 8",
    "ro.build.version.release": "15",
    "ro.build.version.sdk": "35",
    "ro.soc.manufacturer": "Google",
    "ro.soc.model": "Tensor G3",
    "ro.board.platform": "zuma",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
}
BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: {usb}
  Wireless powered: false
  Dock powered: false
  Max charging current: 500000
  Charge counter: 3210000
  status: 2
  health: 2
  present: true
  level: {level}
  scale: 100
  voltage: 4232
  temperature: {tenths}
  technology: Li-ion
"""
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
\tkilled: false
\tbroadcasts count: -1
Thermal Status: {status}
Cached temperatures:
\tTemperature{{mValue=99.0, mType=3, mName=VIRTUAL-SKIN, mStatus=3}}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 2  connected: yes
Current temperatures from HAL:
\tTemperature{{mValue=45.0, mType=0, mName=BIG, mStatus=0}}
\tTemperature{{mValue=31.4, mType=3, mName=VIRTUAL-SKIN, mStatus=0}}
Current cooling devices from HAL:
\tCoolingDevice{{mValue=88, mType=3, mName=thermal-cpufreq-0}}
"""


@dataclass
class Scenario:
    """How adb and the device behave.

    Attributes:
        listed: serial and state of each line of `adb devices`.
        thermal: statuses that `dumpsys thermalservice` gives one after the other, the
            last of them from then on; none: an Android that has no such service.
        times: file name to the microseconds of its timed runs, one list a turn.
        tool: file name to how the tool behaves on it: see fake_benchmark.py.
        break_at: number of the shell call at which the connection breaks.
        hang_at: number of the shell call that never ends.
        full: pushing fails for want of space.
    """

    listed: list[tuple[str, str]] = field(default_factory=lambda: [("8A1X0Z", "device")])
    props: dict[str, str] = field(default_factory=lambda: dict(PIXEL))
    level: int = 83
    usb: str = "true"
    tenths: int = 287
    thermal: list[int] = field(default_factory=lambda: [0])
    times: dict[str, list[list[int]]] = field(default_factory=dict)
    tool: dict[str, str] = field(default_factory=dict)
    break_at: int = -1
    hang_at: int = -1
    full: bool = False


def install(folder: Path, scenario: Scenario) -> dict[str, str]:
    """Put an `adb` into `folder`/bin.

    Returns:
        The environment variables that make it the one that is found.
    """
    for name in ("bin", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "device-bin", ignore_errors=True)
    (folder / "scenario.json").write_text(json.dumps(asdict(scenario)))
    program = folder / "bin" / "adb"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S {Path(__file__)} "$@"\n')
    program.chmod(0o755)
    return {"FAKE_ADB": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def calls(folder: Path) -> list[list[str]]:
    """The arguments of every call so far."""
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _shell(folder: Path, scenario: dict[str, Any], text: str) -> int:
    number = sum(1 for call in calls(folder) if "shell" in call) - 1
    if number == scenario["hang_at"]:
        time.sleep(60)
    if number == scenario["break_at"]:
        print("half of an ans")
        return 1
    bin_ = folder / "device-bin"
    if not bin_.exists():
        _device_programs(folder, scenario, bin_)
    done = subprocess.run(
        ["sh", "-c", text.replace(DEVICE_TMP, str(folder / "tmp"))],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{bin_}:/usr/bin:/bin"},
    )  # fmt: skip
    sys.stdout.write(done.stdout.replace(str(folder / "tmp"), DEVICE_TMP).replace("\n", "\r\n"))
    sys.stderr.write(done.stderr)
    return done.returncode


def _device_programs(folder: Path, scenario: dict[str, Any], bin_: Path) -> None:
    bin_.mkdir()
    told = "".join(f"[{name}]: [{value}]\n" for name, value in scenario["props"].items())
    (folder / "props.txt").write_text(told)
    (folder / "battery.txt").write_text(
        BATTERY.format(usb=scenario["usb"], level=scenario["level"], tenths=scenario["tenths"])
    )
    for place, status in enumerate(scenario["thermal"]):
        (folder / f"thermal.{place}.txt").write_text(THERMAL.format(status=status))
    last = len(scenario["thermal"]) - 1
    counter = shlex.quote(str(folder / "thermal.count"))
    where = shlex.quote(str(folder))
    heat = (
        f"n=$(cat {counter} 2>/dev/null || echo 0)\n"
        f"[ $n -gt {last} ] && n={last}\n"
        f"echo $((n + 1)) > {counter}\n"
        f"cat {where}/thermal.$n.txt\n"
        if last >= 0
        else 'echo "Can\'t find service: thermalservice"\n'
    )
    scripts = {
        "getprop": f"cat {where}/props.txt\n",
        "dumpsys": f"if [ $1 = battery ]; then cat {where}/battery.txt; exit; fi\n{heat}",
    }
    for name, text in scripts.items():
        (bin_ / name).write_text(f"#!/bin/sh\n{text}")
        (bin_ / name).chmod(0o755)


def _push(folder: Path, scenario: dict[str, Any], local: str, remote: str) -> int:
    if scenario["full"]:
        print("adb: error: failed to copy: remote couldn't write: No space left on device",
              file=sys.stderr)  # fmt: skip
        return 1
    there = Path(remote.replace(DEVICE_TMP, str(folder / "tmp")))
    if there.name == "benchmark_model":
        stand_in = Path(__file__).with_name("fake_benchmark.py")
        call = f'exec {sys.executable} %s {stand_in} "$@"'
        # -S starts in a tenth of the time, but has no numpy
        there.write_text(
            f"#!/bin/sh\ncase $* in *--output_filepath*) {call % ''};; *) {call % '-S'};; esac\n"
        )
        there.chmod(0o644)
    else:
        shutil.copyfile(local, there)
    print(f"{local}: 1 file pushed, 0 skipped. 30.2 MB/s")
    return 0


def main() -> int:
    folder = Path(os.environ["FAKE_ADB"])
    words = sys.argv[1:]
    with (folder / "calls.jsonl").open("a") as stream:
        stream.write(json.dumps(words) + "\n")
    scenario = json.loads((folder / "scenario.json").read_text())
    if words == ["devices"]:
        print("* daemon not running; starting now at tcp:5037\n* daemon started successfully")
        print("List of devices attached")
        for serial, state in scenario["listed"]:
            print(f"{serial}\t{state}")
        print()
        return 0
    ready = [serial for serial, state in scenario["listed"] if state == "device"]
    if words[0] != "-s" or words[1] not in ready:
        print(f"adb: device '{words[1]}' not found", file=sys.stderr)
        return 1
    command, *rest = words[2:]
    if command == "shell":
        return _shell(folder, scenario, " ".join(rest))
    if command == "push":
        return _push(folder, scenario, *rest)
    if command == "pull":
        shutil.copyfile(rest[0].replace(DEVICE_TMP, str(folder / "tmp")), rest[1])
        return 0
    print(f"adb: unknown command {command}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
