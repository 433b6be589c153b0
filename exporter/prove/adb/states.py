"""What a device says of itself: model, Android version, battery, heat."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.prove.adb.client import AdbError, Device

# android.os.PowerManager, THERMAL_STATUS_*
THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_BETWEEN = "EXPORTER_BETWEEN"
_SKIN = "3"  # android.hardware.thermal TemperatureType


@dataclass(frozen=True)
class About:
    """A device.

    Attributes:
        abis: what its processor runs, best first, e.g. 'arm64-v8a'.
        soc: the chip, as far as the device names it.
        emulator: whether it is one; its times say nothing of a phone.
    """

    serial: str
    manufacturer: str
    model: str
    android: str
    sdk: int
    soc: str
    abis: tuple[str, ...]
    emulator: bool

    @property
    def title(self) -> str:
        """'Google Pixel 8, Android 15, Tensor G3, arm64-v8a'."""
        maker = "" if self.model.lower().startswith(self.manufacturer.lower()) else "".join(
            (self.manufacturer, " ")
        )  # fmt: skip
        kind = "emulator " if self.emulator else ""
        parts = [f"{kind}{maker}{self.model}", f"Android {self.android}", self.soc, self.abis[0]]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class State:
    """A device at one moment; None for what it does not tell.

    Attributes:
        thermal: 0 ('none') to 6, see `THERMAL`; Android 10 and later tell it.
        battery_c, skin_c: degrees Celsius.
    """

    battery_percent: int | None
    charging: bool | None
    battery_c: float | None
    thermal: int | None
    skin_c: float | None

    def __str__(self) -> str:
        charging = {True: ", charging", False: ", on battery", None: ""}[self.charging]
        parts = [
            "" if self.battery_percent is None else f"battery {self.battery_percent} %{charging}",
            "" if self.battery_c is None else f"{self.battery_c:.1f} °C",
            "" if self.skin_c is None else f"skin {self.skin_c:.1f} °C",
            "heat not told" if self.thermal is None else f"thermal status {self.heat}",
        ]
        return ", ".join(part for part in parts if part)

    @property
    def heat(self) -> str:
        if self.thermal is None:
            return "not told"
        return THERMAL[self.thermal] if self.thermal < len(THERMAL) else str(self.thermal)


def about(device: Device) -> About:
    """Ask a device what it is.

    Raises:
        AdbError: it names no processor type.
    """
    told = dict(re.findall(r"^\[(.+?)\]: \[(.*)\]\s*$", device.shell("getprop").text, re.MULTILINE))
    listed = told.get("ro.product.cpu.abilist") or told.get("ro.product.cpu.abi", "")
    abis = tuple(abi for abi in listed.split(",") if abi)
    if not abis:
        raise AdbError(
            f"The device {device.serial} names no processor type.",
            "'getprop' has no ro.product.cpu.abilist",
            "is it an Android device? 'adb shell getprop' by hand shows what it says",
        )
    maker, soc = told.get("ro.soc.manufacturer", ""), told.get("ro.soc.model", "")
    chip = " ".join(part for part in (maker, soc) if part and part != "unknown")
    sdk = told.get("ro.build.version.sdk", "")
    return About(
        serial=device.serial,
        manufacturer=told.get("ro.product.manufacturer", ""),
        model=told.get("ro.product.model", "") or "unnamed device",
        android=told.get("ro.build.version.release", "?"),
        sdk=int(sdk) if sdk.isdigit() else 0,
        soc=chip or told.get("ro.board.platform", ""),
        abis=abis,
        emulator=told.get("ro.kernel.qemu") == "1" or told.get("ro.boot.qemu") == "1",
    )


def state(device: Device) -> State:
    """Ask a device for battery and heat."""
    both = device.script(f"dumpsys battery; echo {_BETWEEN}; dumpsys thermalservice").text
    battery, _, thermal = both.partition(_BETWEEN)
    return read_state(battery, thermal)


def read_state(battery: str, thermal: str) -> State:
    """Read what `dumpsys battery` and `dumpsys thermalservice` print.

    Temperatures of the 'cached' section are stale; only those of the HAL count.
    """
    values = dict(re.findall(r"^\s*([A-Za-z ]+?): (\S+)\s*$", battery, re.MULTILINE))
    level, scale = _whole(values.get("level")), _whole(values.get("scale")) or 100
    tenths = _whole(values.get("temperature"))
    powered = [v for k, v in values.items() if k.endswith("powered")]
    status = re.search(r"^\s*Thermal Status: (\d+)\s*$", thermal, re.MULTILINE)
    current = thermal.partition("Current temperatures from HAL:")[2].partition("Current cooling")[0]
    skins = re.findall(rf"mValue=(-?[\d.]+), mType={_SKIN},", current)
    return State(
        battery_percent=None if level is None else round(100 * level / scale),
        charging="true" in powered if powered else None,
        battery_c=None if tenths is None else tenths / 10,
        thermal=int(status.group(1)) if status else None,
        skin_c=max(map(float, skins)) if skins else None,
    )


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None
