"""The sentences say what the decision found, and only that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.choose import words
from exporter.choose.advice import at_risk, large_drop, remarks, verdict
from exporter.choose.decide import decide
from exporter.choose.results import NONE_PUBLISHED, Budget, Comparison, Latency, Outcome
from support.comparisons import INT8, comparison, five, outcome, twelve, two


def said(of: Comparison) -> str:
    return verdict(of, decide(of))


def also(of: Comparison) -> str:
    return "\n".join(remarks(of, decide(of)))


def test_the_sentence_says_which_and_why() -> None:
    assert said(two()) == (
        "Take mobilenet_v2:width_mult=0.35 (int8): 93.0 % ± 1.6 on 272 test images, 2.30 ms an "
        "image, 0.70 MB. mobilenet_v2 is 1.5 points more accurate, which is within noise "
        "(± 2.1); mobilenet_v2:width_mult=0.35 is 4.0 times as fast and 3.7 times smaller."
    )
    assert also(two()) == ""


def test_the_best_is_taken_and_the_next_named() -> None:
    assert said(five()).endswith(
        "No other within 20 ms and 5 MB is as accurate: squeezenet1_1 follows 32.5 points behind."
    )


def test_equals_that_cost_more_are_named() -> None:
    assert said(twelve()).endswith(
        "None within 20 ms and 5 MB is more accurate; mobilenet_v3_large comes within noise of it "
        "and is slower or larger."
    )
    many = comparison(*(outcome(f"n{ms}", ms, 0.9 - ms / 1000) for ms in range(1, 7)))
    assert "n2, n3 and 3 more come within noise of it and are slower" in said(many)


def test_the_smaller_of_one_speed_says_so() -> None:
    found = said(
        comparison(
            outcome("best", 9.0, 0.93, 8.0), outcome("quick", 2.0, 0.92, 8.0),
            outcome("small", 2.1, 0.91, 0.8),
        )
    )  # fmt: skip
    assert found.endswith(
        "small is 4.3 times as fast and 10 times smaller, and smaller than quick at the same speed."
    )
    same = said(comparison(outcome("best", 2.0, 0.9, 1.05), outcome("other", 2.1, 0.9, 1.0)))
    assert same.endswith("best is as accurate; other is a little smaller.")


@pytest.mark.parametrize(
    ("of", "words_in_it"),
    [
        (comparison(), "nothing to choose from"),
        (comparison(outcome("a")), "It is the only candidate."),
        (comparison(outcome("a"), outcome("b", 9.0), ms=3), "Of 2 candidates it is the only one"
         " within 3 ms."),
        (comparison(outcome("a"), Outcome("b", "b", {}, failure="no")),
         "Of 2 candidates it is the only one with a file to ship."),
        (comparison(Outcome("b", "b", {}, failure="no")), "no candidate has a measured file"),
        (comparison(outcome("a"), ms=1), "The only candidate is not within 1 ms."),
    ],
)  # fmt: skip
def test_of_few_candidates(of: Comparison, words_in_it: str) -> None:
    assert words_in_it in said(of)


def test_where_none_fits_the_nearest_and_the_remedy_are_named() -> None:
    narrow = outcome("mobilenet_v2", 3.05, 0.9, 2.0,
                     options={"width_mult": 1.0, "input_size": 224})  # fmt: skip
    found = said(comparison(narrow, outcome("big", 30.0, 0.95, 20.0), ms=2, mb=1.5))
    assert found == (
        "None of 2 candidates is within 2 ms and 1.5 MB. The nearest is mobilenet_v2 (int8), "
        "over by 1.05 ms and 0.50 MB, with 90.0 %. Allow --budget-ms 3.1 and --budget-mb 2.1, or "
        "try it with a smaller width_mult or input_size, or a smaller network."
    )
    only_size = said(comparison(outcome("a", mb=9.0), outcome("b", mb=10.0), mb=1))
    assert only_size.endswith("or try a network with fewer parameters.")
    fixed = outcome("lenet5", 3.0, options={"input_size": 28})  # it takes no smaller one
    assert said(comparison(fixed, ms=1)).endswith("or try a smaller network.")


@pytest.mark.parametrize("ms", [0.013, 0.99, 1.0, 3.05, 9.99, 20.0, 31.0, 138.2, 1999.0])
def test_the_budget_it_asks_for_holds_the_candidate(ms: float) -> None:
    tight = comparison(outcome("a", ms), outcome("b", 2 * ms), ms=ms / 2)
    asked = float(said(tight).split("--budget-ms ")[1].split(",")[0])
    assert ms < asked < ms * 1.2 + 0.02
    assert decide(replace(tight, budget=Budget(asked))).taken is not None


def test_what_the_budget_costs() -> None:
    found = also(replace(twelve(), budget=Budget(2.0)))
    assert (
        "The budget costs accuracy: mobilenet_v2:width_mult=0.35:input_size=160:output_stride=16 "
        "is 18.0 points better and over by 0.10 ms." in found
    )
    assert "and 6 more by more." in found
    assert "budget costs" not in also(replace(twelve(), budget=Budget()))
    assert "Over the budget: efficientnet_b0 by 4.00 ms and 0.60 MB." in also(five())


def test_a_budget_costs_nothing_within_noise() -> None:
    slow = outcome("slow", 9.0, 0.91)
    found = also(comparison(outcome("a"), slow, ms=5))
    assert "Over the budget: slow" in found
    assert "budget costs" not in found


def test_a_slow_tail_is_told() -> None:
    slow = outcome("a", latency={INT8: Latency(19.0, 24.0)})
    assert "One run in ten of a takes 24.0 ms or more" in also(comparison(slow, ms=20))
    assert "One run" not in also(comparison(slow))


def test_a_large_drop_warns_and_swish_is_named() -> None:
    found = also(five())
    assert "int8 costs much: efficientnet_b0 7.0 points. Of efficientnet_b0 that is known" in found
    assert "--int8-budget" in found
    plain = also(comparison(outcome("resnet18", drop=0.08)))
    assert "resnet18 8.0 points" in plain
    assert "swish" not in plain


@pytest.mark.parametrize(
    ("architecture", "risk"),
    [("efficientnet_b3", True), ("mobilenet_v3_small", True), ("resnet18", False),
     ("mobilenet_v2", False), ("no_such_network", False)],
)  # fmt: skip
def test_who_is_at_risk_stands_on_the_cards(architecture: str, risk: bool) -> None:
    assert at_risk(architecture) is risk


@pytest.mark.parametrize(
    ("drop", "images", "agreement", "large"),
    [
        (0.07, 272, {}, True),
        (0.019, 5000, {}, False),  # too small to matter
        (0.07, 20, {}, False),  # two images of twenty
        (0.03, 200, {}, False),
        (0.03, 200, {INT8: 0.97}, True),  # little changed, and all of it for the worse
        (-0.07, 272, {}, False),
    ],
)
def test_a_drop_is_large_beyond_noise_only(
    drop: float, images: int, agreement: dict[str, float], large: bool
) -> None:
    of = outcome("a", 2.0, 0.8, 1.0, drop, images, agreement=agreement)
    assert large_drop(of, images) is large


def test_a_failed_int8_gate_is_told() -> None:
    assert (
        "int8 of efficientnet_b0 failed its gate (accuracy drop is 0.025, limit 0.015): its "
        "float16 file stands here for it." in also(twelve())
    )


def test_a_gate_that_decides_within_noise_is_told_first() -> None:
    """One answer of 48 costs the best candidate its int8 file, and so the budget."""
    other = outcome("a", 1.0, 0.5)
    best = outcome(
        "best", 20.0, 0.96, 2.0, drop=1 / 48, images=48,
        agreement={INT8: 47 / 48}, gates_failed={INT8: "accuracy drop 0.021, limit 0.015"},
        latency={INT8: Latency(9.0, 9.5), "tflite-float16": Latency(24.0, 25.0)},
    )  # fmt: skip
    of = comparison(best, other, ms=20)
    first, second, *_ = remarks(of, decide(of))
    assert first == (
        "int8 of best failed its gate (accuracy drop 0.021, limit 0.015): its float16 file "
        "stands here for it. The int8 file would be within the budget. On 48 test images that "
        "drop is within noise (± 2.9 points): more of them would tell."
    )
    assert second.startswith("The budget costs accuracy: best")
    for limits in ({"ms": 30}, {"ms": 5}, {"ms": 20, "mb": 1}):
        found = also(comparison(best, other, **limits))
        assert "int8 of best failed" in found
        assert "would be within" not in found
    disagrees = replace(best, gates_failed={INT8: "top-1 agreement 0.9"})
    certain = replace(best, agreement={INT8: 1.0}, test_images=5000)
    for each in (disagrees, certain):
        assert "that drop is within noise" not in also(comparison(each, other, ms=20))


def test_training_from_scratch_is_told() -> None:
    found = also(five())
    assert (
        "lenet5 and squeezenet1_1 were trained from scratch. Published weights (--weights-dir) "
        "would be likely to raise that of squeezenet1_1." in found
    )
    assert "the start differs" in found
    scratch = {"start": "scratch", "weights": "", "why_scratch": "not within reach"}
    everyone = also(comparison(outcome("a", **scratch), outcome("b", 9.0, **scratch)))
    assert everyone.startswith(
        "All candidates were trained from scratch (weights: not within reach). Published"
    )
    assert "the start differs" not in everyone
    alone = {**scratch, "why_scratch": NONE_PUBLISHED}
    assert also(comparison(outcome("a", **alone))) == (
        "a was trained from scratch (weights: none are published)."
    )


@pytest.mark.parametrize(
    ("accuracy", "classes", "told"),
    [(0.13, 8, True), (0.156, 8, True), (0.25, 8, False), (0.13, 100, False), (0.13, 0, False)],
)
def test_candidates_that_learnt_nothing_are_told(accuracy: float, classes: int, told: bool) -> None:
    of = replace(comparison(outcome("a", 2.0, accuracy)), classes=classes)
    assert (f"better than guessing among {classes} classes" in said(of)) is told


def test_few_images_are_told() -> None:
    few = comparison(outcome("a", images=40), images=40)
    assert "40 test images know an accuracy to ± 5 points only" in also(few)


def test_failures_are_told() -> None:
    assert "vgg16 is left out: needs 11 GB of memory, 8 are free." in also(five())


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (words.figure(0.0), "0.00"), (words.figure(0.0237), "0.024"), (words.figure(0.214), "0.21"),
        (words.figure(9.996), "10.0"), (words.figure(99.96), "100"), (words.figure(None), "–"),
        (words.count(61_706), "61.7 k"), (words.count(3_504_872), "3.50 M"),
        (words.count(999_900), "1.00 M"), (words.count(5_710_000_000), "5.71 G"),
        (words.count(12), "12"), (words.megabytes(614_400), "0.61 MB"),
        (words.duration(8.44), "8.4 s"), (words.duration(59.7), "1 min 00 s"),
        (words.duration(200), "3 min 20 s"), (words.duration(3900), "1 h 05 min"),
        (words.points(0.01), "1.0 point"), (words.points(-0.031), "3.1 points"),
        (words.listed([]), ""), (words.listed(["a", "b", "c"]), "a, b and c"),
    ],
)  # fmt: skip
def test_words(shown: str, text: str) -> None:
    assert shown == text
