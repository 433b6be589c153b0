"""A checked request: what will be made, from what, under which cache keys."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from exporter import bundle
from exporter.cache import Cache, digest, source_hash, versions
from exporter.pipeline import artifacts, calibration_checks, pixels, proof
from exporter.pipeline.intake import Intake, take_in
from exporter.pipeline.request import Chosen, ExportRequest, check_mixed, check_out, choose_formats


@dataclass(frozen=True)
class Job:
    """Everything that the stages of one export need.

    Attributes:
        calibration: the calibration images, where any were given.
        images: those of the proof, where any were given.
        image_hashes: of their pixels; see `calibration_checks.hash_squares`.
        onnx_key: of the stage that writes model.onnx.
        pixels_key: of the stage that decodes the calibration images; None where no format
            needs them.
    """

    request: ExportRequest
    chosen: Chosen
    intake: Intake
    calibration: pixels.ImageSet | None
    images: pixels.ImageSet | None
    cache: Cache
    onnx_key: str
    pixels_key: str | None
    image_hashes: tuple[str, ...] = ()

    @property
    def quantized_key(self) -> str | None:
        """Of the stage that decides about int8; None where no format needs it."""
        if self.pixels_key is None:
            return None
        return digest(
            "quantized", source_hash(), self.onnx_key, self.pixels_key, self.request.quantizer,
            versions(*artifacts.quantizer_packages(self.request.quantizer)),
        )  # fmt: skip

    def artifact_key(self, row: bundle.Format) -> str:
        return digest(
            "artifact", source_hash(), row.key, self.onnx_key,
            self.quantized_key if row.calibrated else None,
            self._measured_by if row.key == "tflite-mixed" else None,
            versions(*artifacts.PACKAGES[row.runtime]),
        )  # fmt: skip

    @property
    def int8_budget(self) -> float:
        """The most latency of tflite-mixed, by that of the int8 file."""
        return self.request.int8_budget or artifacts.BUDGET

    @property
    def _measured_by(self) -> tuple[object, ...]:
        """What a choice of layers by their measured latency hangs on."""
        return self.int8_budget, self.request.float_layers


@contextlib.contextmanager
def checked(request: ExportRequest) -> Iterator[Job]:
    """Find what is wrong with a request before any long work.

    Raises:
        UserError: anything that the user can mend.
    """
    check_mixed(request)
    chosen = choose_formats(request.formats, request.calibration is not None)
    check_out(request.out, request.force)
    proof.settings_of(request)
    calibration, images = _images(request, chosen)
    intake = take_in(request)
    rule = intake.contract.preprocessing
    image_hashes = () if images is None else calibration_checks.hash_squares(images, rule)
    cache = Cache(request.cache)
    onnx_key = digest(
        "onnx", source_hash(), intake.identity, intake.contract.to_json(),
        request.architecture, dict(request.options), versions(*intake.packages),
    )  # fmt: skip
    pixels_key = None
    if calibration is not None and any(row.calibrated for row in chosen.formats):
        pixels_key = digest(
            "pixels", source_hash(), calibration.hashes, dataclasses.asdict(rule),
            versions("pillow"),
        )  # fmt: skip
    try:
        yield Job(
            request, chosen, intake, calibration, images, cache, onnx_key, pixels_key, image_hashes
        )
    finally:
        cache.close()


def _images(
    request: ExportRequest, chosen: Chosen
) -> tuple[pixels.ImageSet | None, pixels.ImageSet | None]:
    """The images to calibrate on, and those of the proof: never one of the former."""
    calibration = images = None
    calibrated = any(row.calibrated for row in chosen.formats)
    if request.calibration is not None:
        calibration = pixels.choose(request.calibration, request.calibration_limit)
        if calibrated:
            count = len(calibration.files)
            calibration_checks.check_count(calibration, request.allow_few_images)
            artifacts.check_quantizer(request.quantizer, count)
    if request.images is not None:
        besides = calibration.hashes if calibration is not None and calibrated else ()
        images = pixels.choose(request.images, request.images_limit, besides)
    return calibration, images
