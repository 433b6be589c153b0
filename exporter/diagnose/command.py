"""`exporter quantize-report`: run it, show it, write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from exporter.bundle import Bundle, open_bundle
from exporter.diagnose import page, terminal
from exporter.diagnose.diagnose import diagnose
from exporter.diagnose.inputs import require_folder, require_int8
from exporter.diagnose.results import QuantizeReport
from exporter.prove.imageset import ImageSet, prepare
from models.images import list_images


def quantize_report(
    bundle: Path, images: Path | None, limit: int | None, out: Path | None, key: str
) -> int:
    """Say where a bundle's int8 file loses, on a terminal and as files.

    Args:
        bundle: the folder that 'exporter export' wrote; it is not changed.
        images: a folder of photographs; None takes the bundle's golden images.
        limit: at most so many images, spread evenly over the folder.
        out: the folder for quantize-report.html and quantize-report.json; None for
            '<bundle>-quantize-report' beside the bundle. One that this command wrote
            before is replaced.
        key: 'tflite-int8' or 'tflite-mixed'.

    Returns:
        The exit code: 0.

    Raises:
        UserError: the bundle, the images or the folder cannot be used.
    """
    opened = open_bundle(bundle)
    require_int8(opened, key)
    folder = out if out is not None else beside_bundle(bundle)
    require_folder(folder)
    chosen = prepare(opened, list_images(images) if images is not None else [], images, limit)
    console = Console()
    report = _watched(opened, chosen, key, console)
    console.print(terminal.table(report))
    page.write(report, folder, _pictures(chosen))
    console.print(f"Wrote {folder / page.PAGE}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"Wrote {folder / page.JSON}", markup=False, highlight=False, soft_wrap=True)
    return 0


def beside_bundle(bundle: Path) -> Path:
    """Where a report goes that nobody gave a place: a bundle's own files stay as they are."""
    whole = Path(bundle).resolve()
    parent = Path(bundle).parent if Path(bundle).name == whole.name else whole.parent
    return parent / f"{whole.name}-quantize-report"


def _watched(opened: Bundle, chosen: ImageSet, key: str, console: Console) -> QuantizeReport:
    """`diagnose` under a progress bar."""
    with Progress(
        TextColumn("Comparing layers"), BarColumn(bar_width=24), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console, transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("", total=len(chosen.samples))
        return diagnose(opened, chosen, key, lambda: bar.advance(task))


def _pictures(chosen: ImageSet) -> Callable[[str], Path | None]:
    paths = {sample.name: sample.path for sample in chosen.samples}
    return paths.get
