"""What `exporter choose` can be asked, and what it refuses before any long work."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.choose.candidates import DEFAULT, DRAWN, Candidate, parse, sizes
from exporter.choose.request import LEDGER, ChooseRequest, check, parse_budget
from exporter.choose.results import Budget
from exporter.pipeline.request import RequestError
from models.errors import UserError
from models.zoo import ZooError
from support.cli import run_cli

SMALL = "mobilenet_v2:width_mult=0.1:input_size=32"


def test_candidates_are_named_by_what_differs_from_the_defaults() -> None:
    found = parse("squeezenet1_1, mobilenet_v2:input_size=96:width_mult=0.35 ,mobilenet_v2")
    assert [each.name for each in found] == [
        "squeezenet1_1",
        "mobilenet_v2:width_mult=0.35:input_size=96",
        "mobilenet_v2",
    ]
    assert found[1].options["width_mult"] == 0.35
    assert found[1].options["input_size"] == 96
    assert isinstance(found[1].options["input_size"], int)
    assert found[1].given == {"width_mult": 0.35, "input_size": 96}
    assert found[2].given == {}
    assert found[1].slug == "mobilenet_v2-width_mult-0.35-input_size-96"


def test_a_name_reads_back_as_the_same_candidate() -> None:
    for candidate in (*parse(None), *parse(SMALL)):
        assert parse(candidate.name) == (candidate,)


def test_the_usual_candidates_are_there_and_differ() -> None:
    assert [each.name for each in parse(None)] == list(DEFAULT)
    assert len({each.slug for each in parse(None)}) == len(DEFAULT)
    assert [each.name for each in parse(None, drawn=True)] == list(DRAWN)
    assert max(sizes(parse(None, drawn=True))) <= 112  # no larger than what is drawn


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no architecture"),
        ("mobilenet_v2,,resnet18", "empty place"),
        ("nonsense", "Unknown architecture: nonsense"),
        ("mobilenet_v2:width_mult=9", "width_mult is 9"),
        ("mobilenet_v2:depth=2", "no option 'depth'"),
        ("mobilenet_v2:width_mult", "is not OPTION=VALUE"),
        ("mobilenet_v2:width_mult=wide", "is not OPTION=VALUE"),
        ("mobilenet_v2:width_mult=nan", "is not OPTION=VALUE"),
        ("mobilenet_v2:width_mult=0.5:width_mult=0.6", "width_mult twice"),
        ("mobilenet_v2:input_size=96.5", "input_size is 96.5"),
        ("mobilenet_v2,mobilenet_v2", "twice"),
        ("mobilenet_v2,mobilenet_v2:width_mult=1.0", "twice"),
        ("mobilenet_v2:width_mult=0.5,input_size=96", "names no architecture"),
    ],
)
def test_what_is_no_candidate_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        parse(text)
    assert isinstance(error.value, RequestError | ZooError)


def test_an_option_after_a_comma_is_told_where_it_belongs() -> None:
    with pytest.raises(UserError, match="input_size=96") as error:
        parse("mobilenet_v2:width_mult=0.5,input_size=96")
    assert "colon" in error.value.mend


def test_sizes_are_those_of_all_candidates() -> None:
    assert sizes(parse(f"{SMALL},mobilenet_v2,resnet18")) == (32, 224)


@pytest.mark.parametrize(
    ("text", "value"),
    [("20", 20.0), ("20ms", 20.0), (" 7.5 MS ", 7.5), (".5", 0.5), ("-3", -3.0), (None, None)],
)
def test_budgets_are_read(text: str | None, value: float | None) -> None:
    assert parse_budget("--budget-ms", text, "ms") == value


def test_a_budget_in_another_unit_is_refused() -> None:
    with pytest.raises(RequestError, match="--budget-mb is '5ms'"):
        parse_budget("--budget-mb", "5ms", "MB")


def request_for(tmp_path: Path, **changes: object) -> ChooseRequest:
    given = {"out": tmp_path / "out", "candidates": parse(SMALL), **changes}
    return ChooseRequest(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": Budget(ms=0.0)}, "--budget-ms is 0"),
        ({"budget": Budget(mb=-1.0)}, "--budget-mb is -1"),
        ({"epochs": 0}, "--epochs is 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"threads": 0}, "--threads is 0"),
        ({"formats": ("tflite",)}, "Unknown format: tflite"),
        ({"test": Path("somewhere")}, "--synthetic and --test exclude"),
        ({"data": Path("nowhere")}, "--data nowhere is no folder"),
        ({"weights_dir": Path("nowhere")}, "--weights-dir nowhere is no folder"),
    ],
)
def test_requests_that_cannot_work_are_refused(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        check(request_for(tmp_path, **changes))
    assert not (tmp_path / "out").exists()


def test_a_sound_request_names_its_formats(tmp_path: Path) -> None:
    assert check(request_for(tmp_path, formats=("tflite-int8",))) == ("onnx", "tflite-int8")


def test_photographs_inside_the_output_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out" / "photos").mkdir(parents=True)
    (tmp_path / "out" / LEDGER).write_text("{}")
    with pytest.raises(RequestError, match="lies in --out"):
        check(request_for(tmp_path, data=tmp_path / "out" / "photos"))


@pytest.mark.parametrize("flag", ["data", "validation", "test"])
def test_an_output_inside_the_photographs_is_refused(flag: str, tmp_path: Path) -> None:
    """It would be one of their classes when the same command goes on."""
    (tmp_path / "photos" / "daisy").mkdir(parents=True)
    (tmp_path / "others").mkdir()
    given = {"data": tmp_path / "others", flag: tmp_path / "photos"}
    with pytest.raises(RequestError, match=f"lies in --{flag}"):
        check(request_for(tmp_path, out=tmp_path / "photos" / "choose", **given))


def test_weights_inside_the_output_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "resnet18.pth").write_bytes(b"precious")
    with pytest.raises(RequestError, match=r"--weights-dir .* lies in --out"):
        check(request_for(tmp_path, weights_dir=tmp_path / "out", force=True))


@pytest.mark.parametrize("kind", ["file", "full", "bundle", "link", "below a file"])
def test_an_output_that_is_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        out.symlink_to(tmp_path / "nowhere")
    elif kind == "below a file":
        (tmp_path / "held").write_text("mine")
        out = tmp_path / "held" / "out"
    else:
        out.mkdir()
        (out / ("manifest.json" if kind == "bundle" else "letter.txt")).write_text("mine")
    with pytest.raises(RequestError):
        check(request_for(tmp_path, out=out))


def test_force_replaces_a_folder_but_never_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    check(request_for(tmp_path, out=tmp_path, force=True))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="current folder"):
        check(request_for(tmp_path, out=tmp_path, force=True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Say what to compare on"),
        (("--synthetic", "--data", "."), "exclude each other"),
        (("--synthetic", "--budget-ms", "0"), "--budget-ms is 0"),
        (("--synthetic", "--archs", "nonsense"), "Unknown architecture"),
        (("--synthetic", "--formats", "gif"), "Unknown format"),
    ],
)
def test_the_command_says_what_is_wrong(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ran = run_cli("choose", "--out", tmp_path / "out", *words)
    assert ran.code == 2
    assert said in ran.err
    assert not (tmp_path / "out").exists()


def test_a_candidate_is_a_value() -> None:
    assert parse(SMALL)[0] == Candidate(SMALL, "mobilenet_v2", parse(SMALL)[0].options)
