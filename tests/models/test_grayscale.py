"""A network of one channel: RGB comes in all the same, and the contract says so."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from models.classifier import Classifier
from models.contract import Contract, ContractError, Label, Normalization, Preprocessing

NORMALIZATION = Normalization((100.0, 100.0, 100.0), (50.0, 50.0, 50.0))
LABELS = (Label("a"), Label("b"))


def contract(grayscale: bool = True) -> Contract:
    rule = Preprocessing(6, 5, 8, normalization=NORMALIZATION, grayscale=grayscale)
    return Contract(LABELS, rule)


def test_the_contract_says_it_and_only_then() -> None:
    assert contract().to_json()["input"]["grayscale"] is True
    assert contract().to_json()["input"]["color"] == "RGB"
    assert "grayscale" not in contract(grayscale=False).to_json()["input"]
    for each in (contract(), contract(grayscale=False)):
        assert Contract.loads(each.dumps()) == each


def test_anything_but_true_or_false_is_refused() -> None:
    data = contract().to_json()
    data["input"]["grayscale"] = "yes"
    with pytest.raises(ContractError, match="grayscale"):
        Contract.loads(json.dumps(data))
    with pytest.raises(ContractError, match="grayscale"):
        dataclasses.replace(contract().preprocessing, grayscale=1)


def test_the_network_sees_the_luma_of_bt_601() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 3), dtype=np.uint8)
    found = Classifier(torch.nn.Flatten(), contract()).normalize(torch.from_numpy(pixels))
    luma = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    assert found.shape == (2, 1, 6, 5)
    np.testing.assert_allclose(found[:, 0].numpy(), (luma - 100.0) / 50.0, atol=1e-5)


def test_pillow_makes_the_same_gray_to_half_a_level() -> None:
    from PIL import Image

    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    gray = np.asarray(Image.fromarray(pixels).convert("L"), np.float64)
    luma = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(gray - luma).max() <= 0.51
