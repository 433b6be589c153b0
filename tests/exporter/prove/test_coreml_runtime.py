"""The Core ML evaluator on whole files: the numbers are PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from coreml_files import CONTRACT, Samples, needs_coremltools, samples

from exporter.prove.runtimes.coreml import CoreMLRuntime, read_metadata
from models.contract import Contract

pytestmark = needs_coremltools


@pytest.fixture(scope="module")
def made() -> Samples:
    return samples()


def evaluate(made: Samples, name: str, contract: Contract = CONTRACT) -> np.ndarray:
    with CoreMLRuntime(run_natively=False).open(made.path(name), contract) as session:
        return np.stack([session.probabilities(image) for image in made.pixels])


def test_the_sample_answers_depend_on_the_image(made: Samples) -> None:
    assert len(set(made.expected.argmax(axis=1))) >= 3
    assert made.expected.max(axis=1).mean() > 0.3


@pytest.mark.parametrize("name", ["float32.mlpackage", "network.mlmodel"])
def test_float32_files_give_what_torch_gives(made: Samples, name: str) -> None:
    assert np.abs(evaluate(made, name) - made.expected).max() < 1e-5


@pytest.mark.parametrize("name", ["float16.mlpackage", "network_16_linear.mlmodel"])
def test_float16_files_are_near_torch_but_not_equal(made: Samples, name: str) -> None:
    difference = np.abs(evaluate(made, name) - made.expected).max()
    assert 1e-6 < difference < 0.03


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("int8.mlpackage", "int8_plain.mlpackage"),
        ("lut6.mlpackage", "lut6_plain.mlpackage"),
        ("network_4_linear.mlmodel", "network_4_linear_plain.mlmodel"),
        ("network_8_linear_lut.mlmodel", "network_8_linear_lut_plain.mlmodel"),
    ],
)
def test_compressed_weights_unpack_as_coremltools_unpacks_them(
    made: Samples, name: str, plain: str
) -> None:
    found = evaluate(made, name)
    assert np.abs(found - evaluate(made, plain)).max() < 1e-5
    assert np.abs(found - made.expected).max() > 1e-3  # or nothing was compressed


def test_labels_and_metadata_come_from_the_file(made: Samples) -> None:
    for name in ("float32.mlpackage", "network.mlmodel"):
        with CoreMLRuntime(run_natively=False).open(made.path(name), CONTRACT) as session:
            assert session.labels() == CONTRACT.names
        assert Contract.loads(read_metadata(made.path(name))["contract"]) == CONTRACT
