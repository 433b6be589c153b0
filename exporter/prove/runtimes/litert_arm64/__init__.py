"""LiteRT's ARM64 build under emulation: the kernels of a phone, run on this machine.

`setup` fetches the system, `machine` runs it, `worker` is what runs in it, `selfcheck`
notices an emulator that computes wrongly.
"""

from __future__ import annotations

from pathlib import Path

from exporter.prove.runtimes.base import Runtime, Session
from exporter.prove.runtimes.errors import not_installed
from exporter.prove.runtimes.litert_arm64 import setup
from exporter.prove.runtimes.litert_arm64.layout import CPU_NAME, Layout
from models.contract import Contract
from models.errors import UserError

NOT_FETCHED = "the ARM64 system is not set up (exporter fetch arm64)"


class LiteRtArm64Runtime(Runtime):
    """ai-edge-litert for ARM64 with XNNPACK's NEON and dot-product kernels, on one thread.

    Its numbers are those of a phone's kernels; its speed says nothing about a phone.
    """

    name = "litert-arm64"
    evidence = "emulated"
    timed = False
    counterpart = "litert"
    usual_images = 20  # of a float MobileNetV2 one takes 3 seconds

    def unavailable(self) -> str | None:
        missing = not_installed("ai_edge_litert", None) or setup.unsupported()
        if missing:
            return missing
        return NOT_FETCHED if setup.installed() is None else None

    def version(self) -> str:
        stamp = Layout(setup.place()).read_stamp() or {}
        return (
            f"LiteRT {stamp.get('litert')} on ARM64 "
            f"(emulated {CPU_NAME}, QEMU {stamp.get('emulator')})"
        )

    def open(self, path: Path, contract: Contract, threads: int = 1) -> Session:
        from exporter.prove.runtimes.litert_arm64.session import LiteRtArm64Session

        reason = self.unavailable()
        if reason:
            raise UserError(
                f"{path} cannot be run on ARM64 here.", reason, "exporter fetch arm64 sets it up"
            )
        return LiteRtArm64Session(path, contract, Layout(setup.place()))
