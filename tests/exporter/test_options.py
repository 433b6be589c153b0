"""--option NAME=VALUE: what an architecture is asked for on the command line."""

from __future__ import annotations

import pytest

from exporter.cli.options import network_options
from models.errors import UserError


def test_names_and_numbers_are_joined_with_the_flags_of_their_own() -> None:
    found = network_options(["output_stride=16", "depth_mult = 1.5"], 0.35, 96)
    assert found == {"output_stride": 16, "depth_mult": 1.5, "width_mult": 0.35, "input_size": 96}
    assert isinstance(found["output_stride"], int)
    assert network_options(None, None, None) == {}


def test_a_float_stays_one() -> None:
    assert isinstance(network_options(["width_mult=1.0"], None, None)["width_mult"], float)


@pytest.mark.parametrize("text", ["output_stride", "=3", "a=", "a=b", "a=nan", "a=1e999", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        network_options([text], None, None)


def test_one_option_has_one_value() -> None:
    with pytest.raises(UserError, match="input_size is given twice"):
        network_options(["input_size=64"], None, 96)
    with pytest.raises(UserError, match="twice"):
        network_options(["a=1", "a=1"], None, None)
