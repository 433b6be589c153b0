"""Where the parts of the fetched ARM64 system lie, and what is written about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The processor of a mid-range phone of 2019 and later: NEON with dot products and half
# precision. QEMU 7.2's `max` also claims the int8 matrix instructions and computes int8
# convolutions wrongly with them, without a word.
CPU = "cortex-a76"
CPU_NAME = "Cortex-A76"

# LiteRT reads the processor's abilities from this file and crashes where it is missing.
# Implementer 0x41 is Arm, part 0xd0b the Cortex-A76.
_PROCESSOR = """\
processor\t: {number}
BogoMIPS\t: 100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm \
lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""


def cpuinfo(processors: int = 2) -> str:
    """/proc/cpuinfo of so many Cortex-A76."""
    return "".join(_PROCESSOR.format(number=number) for number in range(processors))


@dataclass(frozen=True)
class Layout:
    """The fetched system in the folder `home`."""

    home: Path

    @property
    def root(self) -> Path:
        """What the emulated programs see as / where a file exists in it."""
        return self.home / "root"

    @property
    def emulator(self) -> Path:
        return self.home / "bin" / "qemu-aarch64"

    @property
    def python(self) -> Path:
        return self.root / "usr" / "bin" / "python3"

    @property
    def packages(self) -> Path:
        """LiteRT and numpy for ARM64."""
        return self.home / "packages"

    @property
    def stamp(self) -> Path:
        return self.home / "stamp.json"

    def read_stamp(self) -> dict[str, Any] | None:
        """What `setup.fetch` noted when all was in place; None where it never was."""
        try:
            found = json.loads(self.stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        there = all(path.exists() for path in (self.emulator, self.python, self.packages))
        return found if there and isinstance(found, dict) else None
