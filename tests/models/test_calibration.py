"""Calibration: hand-computed vectors, and torchmetrics and SciPy as second opinions."""

from __future__ import annotations

import numpy as np
import pytest

from models import calibration
from models.calibration import (
    HIGHEST,
    LOWEST,
    activate,
    cross_validated,
    expected_calibration_error,
    fit,
    fit_temperature,
    logits_of,
    negative_log_likelihood,
    reliability,
)


def drawn(
    classes: int = 5, images: int = 4000, temperature: float = 2.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose classes were drawn with the probabilities of logits / temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (images, classes))
    share = activate(logits, "softmax", temperature)
    targets = (share.cumsum(axis=1) < rng.random((images, 1))).sum(axis=1)
    return logits, targets


def multi(
    classes: int = 4, images: int = 3000, temperature: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    logits = rng.normal(-1, 1.5, (images, classes))
    return logits, (rng.random(logits.shape) < activate(logits, "sigmoid", temperature)).astype(
        np.float32
    )


def test_ece_of_four_answers_by_hand() -> None:
    # Five bins: (0.4, 0.6] holds 0.5 (wrong) and 0.6 (right): |0.55 - 0.5| * 2/4 = 0.025;
    # (0.8, 1] holds 0.9 (right) and 1.0 (wrong): |0.95 - 0.5| * 2/4 = 0.225.
    probabilities = [[0.5, 0.4, 0.1], [0.2, 0.6, 0.2], [0.05, 0.05, 0.9], [1.0, 0.0, 0.0]]
    assert expected_calibration_error(probabilities, [1, 1, 2, 1], bins=5) == pytest.approx(0.25)


def test_ece_of_two_labels_by_hand() -> None:
    # Two bins: 0.2 (there), 0.4 (not), 0.5 (not): |1.1/3 - 1/3| * 3/4; 0.8 (there): 0.2 * 1/4.
    found = expected_calibration_error([[0.2, 0.8], [0.4, 0.5]], [[1, 1], [0, 0]], bins=2)
    assert found == pytest.approx((0.1 / 3) * 3 / 4 + 0.2 / 4)


def test_bins_hold_their_upper_edge_and_the_first_one_zero() -> None:
    found = reliability([[0.0, 0.5], [0.51, 1.0]], [[0, 1], [1, 1]], bins=2)
    assert [each.count for each in found] == [2, 2]
    assert found[0].accuracy == 0.5
    assert found[0].confidence == 0.25
    assert (found[1].low, found[1].high) == (0.5, 1.0)


def test_empty_bins_count_nothing() -> None:
    found = reliability([[0.9, 0.1]], [0], bins=10)
    assert sum(each.count for each in found) == 1
    assert all(each.confidence == each.accuracy == 0 for each in found if not each.count)
    assert expected_calibration_error([[0.9, 0.1]], [0], bins=10) == pytest.approx(0.1)


def test_ece_is_that_of_torchmetrics() -> None:
    from models.torchvision_shim import import_torchvision

    import_torchvision()
    import torch
    from torchmetrics.functional import classification as theirs

    logits, targets = drawn()
    probabilities = torch.tensor(activate(logits, "softmax"), dtype=torch.float64)
    expected = theirs.multiclass_calibration_error(
        probabilities, torch.tensor(targets), num_classes=5, n_bins=15, norm="l1"
    )
    assert expected_calibration_error(probabilities, targets) == pytest.approx(
        float(expected), abs=1e-6
    )
    logits, targets = multi()
    flat = torch.tensor(activate(logits, "sigmoid"), dtype=torch.float64)
    expected = theirs.binary_calibration_error(
        flat.ravel(), torch.tensor(targets).ravel().long(), n_bins=15, norm="l1"
    )
    assert expected_calibration_error(flat, targets) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5.0])
def test_the_temperature_that_the_classes_were_drawn_with_is_found(temperature: float) -> None:
    logits, targets = drawn(temperature=temperature)
    assert fit_temperature(logits, targets, "softmax") == pytest.approx(temperature, rel=0.06)


def test_the_temperature_of_a_multi_label_set_is_found() -> None:
    logits, targets = multi()
    assert fit_temperature(logits, targets, "sigmoid") == pytest.approx(0.6, rel=0.06)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_no_temperature_near_it_has_a_smaller_loss(kind: str) -> None:
    from scipy.optimize import minimize_scalar

    logits, targets = drawn(images=300) if kind == "softmax" else multi(images=300)
    found = minimize_scalar(
        lambda t: negative_log_likelihood(logits, targets, kind, t),
        bounds=(LOWEST, HIGHEST),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert fit_temperature(logits, targets, kind) == pytest.approx(found.x, rel=1e-5)


def test_the_loss_by_hand_and_by_torch() -> None:
    import torch
    from torch.nn import functional

    assert negative_log_likelihood([[0.0, np.log(3)]], [1], "softmax") == pytest.approx(
        -np.log(0.75)
    )
    logits, targets = multi(images=20)
    expected = functional.binary_cross_entropy_with_logits(
        torch.tensor(logits) / 3, torch.tensor(targets, dtype=torch.float64)
    )
    assert negative_log_likelihood(logits, targets, "sigmoid", 3) == pytest.approx(float(expected))


def test_a_loss_of_the_right_answer_turned_round_would_be_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits, targets = drawn()
    true_slope = calibration._slope
    monkeypatch.setattr(calibration, "_slope", lambda *args: -true_slope(*args))
    assert fit_temperature(logits, targets, "softmax") != pytest.approx(2.0, rel=0.06)


def test_where_every_answer_is_right_nothing_is_made_surer() -> None:
    logits = np.eye(4) * 3
    found = fit(logits, np.arange(4), "softmax")
    assert found.temperature == 1.0
    assert "every answer is right" in found.note
    found = fit([[3.0, -1.0], [-2.0, 1.0]], [[1, 0], [0, 1]], "sigmoid")
    assert found.temperature == 1.0
    assert found.note


def test_where_every_answer_is_wrong_it_is_held_at_the_highest() -> None:
    found = fit(np.eye(4) * 3, (np.arange(4) + 1) % 4, "softmax")
    assert found.temperature == HIGHEST
    assert "no better than chance" in found.note


def test_where_nearly_every_answer_is_right_it_is_held_at_the_lowest() -> None:
    logits = np.tile([0.5, 0.0], (1000, 1))
    logits[0] = [1e-3, 0.0]
    found = fit(logits, np.eye(1, 1000, 0, dtype=int)[0], "softmax")
    assert found.temperature == LOWEST
    assert "held" in found.note


def test_equal_logits_leave_it_at_one() -> None:
    assert fit(np.zeros((5, 3)), [0, 1, 2, 0, 1], "softmax").temperature == 1.0


def test_huge_logits_do_not_overflow() -> None:
    logits, targets = drawn(images=200)
    with np.errstate(over="raise", invalid="raise"):
        assert fit_temperature(logits * 1e4, targets, "softmax") == HIGHEST


def test_what_is_common_to_the_logits_of_an_image_changes_nothing() -> None:
    logits, targets = drawn(images=200)
    assert fit_temperature(logits + 100, targets, "softmax") == pytest.approx(
        fit_temperature(logits, targets, "softmax")
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_probabilities_alone_give_the_same_temperature(kind: str) -> None:
    logits, targets = drawn(images=500) if kind == "softmax" else multi(images=500)
    back = logits_of(activate(logits, kind), kind)
    np.testing.assert_allclose(activate(back, kind), activate(logits, kind), atol=1e-9)
    assert fit_temperature(back, targets, kind) == pytest.approx(
        fit_temperature(logits, targets, kind), rel=1e-3
    )


def test_torch_tensors_are_taken() -> None:
    import torch

    logits, targets = drawn(images=200)
    assert fit_temperature(torch.tensor(logits), torch.tensor(targets), "softmax") == (
        fit_temperature(logits, targets, "softmax")
    )


def test_halves_are_judged_by_each_others_temperature() -> None:
    logits, targets = drawn(images=2000, temperature=3.0)
    found = cross_validated(logits, targets, "softmax")
    assert found is not None
    assert found.before > 0.1
    assert found.after < 0.03
    assert found.temperatures[0] != found.temperatures[1]
    assert found.after_probabilities.shape == logits.shape


def test_the_very_images_are_not_what_is_judged() -> None:
    """Fitted and judged on the same few images it would look better than on others."""
    gains = []
    for seed in range(20):
        logits, targets = drawn(classes=3, images=16, temperature=1.0, seed=seed)
        found = cross_validated(logits, targets, "softmax", seed=seed)
        assert found is not None
        same = activate(logits, "softmax", fit_temperature(logits, targets, "softmax"))
        gains.append(
            negative_log_likelihood(
                logits_of(found.after_probabilities, "softmax"), targets, "softmax"
            )
            - negative_log_likelihood(logits_of(same, "softmax"), targets, "softmax")
        )
    assert np.mean(gains) > 0.02


def test_each_class_is_in_both_halves() -> None:
    second = calibration._halves(np.repeat(np.arange(10), 2), seed=1)
    assert second.reshape(10, 2).sum(axis=1).tolist() == [1] * 10


def test_one_image_has_no_halves() -> None:
    assert cross_validated([[1.0, 0.0]], [0], "softmax") is None


@pytest.mark.parametrize(
    ("logits", "targets", "kind"),
    [
        (np.zeros((0, 2)), [], "softmax"),
        ([[0.0, np.nan]], [0], "softmax"),
        ([[0.0, 1.0]], [2], "softmax"),
        ([[0.0, 1.0]], [[0, 1]], "softmax"),
        ([[0.0, 1.0]], [0], "sigmoid"),
        ([[0.0, 1.0]], [0, 1], "softmax"),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits: object, targets: object, kind: str) -> None:
    with pytest.raises(ValueError):
        fit_temperature(logits, targets, kind)
