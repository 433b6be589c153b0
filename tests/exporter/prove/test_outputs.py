"""What readers of a proof see: the terminal, CI systems, pull requests."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console, RenderableType

from exporter.bundle import FORMATS
from exporter.prove import doctor, outputs
from exporter.prove.compare import MAX_SQNR_DB
from exporter.prove.outputs import wording
from exporter.prove.results import (
    ArtifactResult,
    GateCheck,
    ImageResult,
    Latency,
    LatencyResult,
    ParityReport,
    Versus,
)
from exporter.prove.verify import Finding
from models.errors import UserError

FLIP = ImageResult("a|b/<img>.jpg", "boa", 1, 2, 0.41, 0.40, 0.01, 0.2)


def artifact(key: str, **changes: object) -> ArtifactResult:
    row = next(row for row in FORMATS if row.key == key)
    found = ArtifactResult(
        key=key, path=row.path, precision=row.precision, runtime=row.runtime,
        version=f"{row.runtime} 1.0", evidence="run", status="passed", images=400,
        max_probability_difference=3.1e-7, mean_probability_difference=1e-9,
        max_logit_difference=2e-5, mean_logit_difference=1.2e-6, logit_sqnr_db=118.04,
        top1_agreement=1.0, top5_agreement=1.0, accuracy=0.8325, reference_accuracy=0.8325,
        gates=(GateCheck("top-1 agreement", 1.0, 1.0, True),), bytes=1000,
    )  # fmt: skip
    return replace(found, **changes)  # type: ignore[arg-type]


FAILING = artifact(
    "tflite-int8", status="failed", mean_logit_difference=0.2312, logit_sqnr_db=19.96,
    top1_agreement=0.915, accuracy=0.81, max_probability_difference=0.44,
    gates=(GateCheck("top-1 agreement", 0.915, 0.93, False),
           GateCheck("accuracy drop", 0.0225, 0.02, False),
           GateCheck("probabilities outside 0..1", 0.0, 1e-6, True)),
    flipped=(FLIP,) * 25, worst=(FLIP,),
)  # fmt: skip
UNOPENED = replace(
    artifact("mlmodel", status="failed", reason="Model.mlmodel cannot be opened", gates=()),
    top1_agreement=None, accuracy=None, logit_sqnr_db=None, mean_logit_difference=None,
    max_probability_difference=None, images=0,
)  # fmt: skip
ABSENT = ArtifactResult(
    "saved-model", "saved_model", "float32", "tensorflow", "", "run", "not run",
    "tensorflow is not installed (pip install 'exporter[tensorflow]')",
)  # fmt: skip
LATENCY = Latency(
    "Some CPU", 1, 10,
    (LatencyResult("torch", "torch eager 2.13.0", 50, 21.5, 24.25, 1.0),
     LatencyResult("tflite-int8", "LiteRT 2.3.0 (XNNPACK)", 50, 1.9, 2.1, 0.088)),
    (("mlmodel", "evaluated, not run: its speed says nothing"),),
)  # fmt: skip
REPORT = ParityReport(
    "snakes [v2]", "torch eager 2.13.0", "photos", 400, 400,
    (artifact("onnx"), FAILING, ABSENT, UNOPENED), LATENCY, ("a note with [brackets]",),
    reference_accuracy=0.8325,
)  # fmt: skip
SOUND = replace(REPORT, artifacts=(artifact("onnx"), ABSENT))


def shown(what: RenderableType, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(what)
    return stream.getvalue()


def test_the_terminal_table_says_everything_in_80_columns() -> None:
    text = shown(outputs.table(REPORT))
    assert max(map(len, text.splitlines())) <= 80
    row = next(line for line in text.splitlines() if line.startswith("tflite-int8 "))
    assert row.split() == [
        "tflite-int8", "litert", "FAILED", "4.4e-01", "0.231", "20.0", "91.5%", "81.0", "-2.2",
    ]  # fmt: skip
    assert "top-1 agreement is 0.915, the limit is 0.93" in text
    assert "accuracy drop is 0.0225, the limit is 0.02" in text
    assert "outside" not in text
    assert "mlmodel: Model.mlmodel cannot be opened" in text
    assert "not run: saved-model: tensorflow is not installed" in text.replace("\n", " ")
    first = next(line for line in text.splitlines() if line.startswith("reference "))
    assert first.split()[1:] == ["torch", "–", "–", "–", "–", "–", "83.2"]
    assert "snakes [v2]" in text
    assert "a note with [brackets]" in text
    assert "2 of 3 files failed: tflite-int8, mlmodel; 1 not run" in text
    assert "1.90 ms" in text


def test_every_format_fits_the_table() -> None:
    rows = tuple(artifact(row.key, evidence="evaluated") for row in FORMATS)
    text = shown(outputs.table(replace(REPORT, artifacts=rows, latency=None)))
    for row in FORMATS:
        assert any(line.startswith(row.key + " ") for line in text.splitlines())
    assert f"all {len(FORMATS)} compared files pass their gates" in text
    assert max(map(len, text.splitlines())) <= 80


def test_one_file_in_several_runtimes_has_a_row_in_each() -> None:
    int8 = artifact("tflite-int8")
    arm64 = replace(
        int8, runtime="litert-arm64", evidence="emulated",
        versus=Versus("litert", "steps", 2560, 3, 1.0),
    )  # fmt: skip
    same = replace(int8, runtime="browser", versus=Versus("litert", "steps", 2560, 0, 0.0))
    phone = replace(int8, runtime="browser", evidence="reported", device="Pix|el", accuracy=None)
    timed = Latency("Pix|el (reported by the device)", 4, 5,
                    (LatencyResult("tflite-int8", "LiteRT.js", 30, 8.8, 9.0, 1.1),),
                    relative_to="tflite-float32")  # fmt: skip
    report = replace(SOUND, artifacts=(int8, arm64, same, phone), device_latencies=(timed,))
    text = shown(outputs.table(report))
    assert max(map(len, text.splitlines())) <= 80
    places = [
        line.split()[1:3]
        for line in text.splitlines()
        if line.startswith("tflite-int8 ") and "@" not in line
    ]
    assert places[:1] == [["litert", "passed"]]
    assert ["arm64,", "emulated"] in places and ["Pix|el,", "reported"] in places
    flat = " ".join(text.split())
    assert "tflite-int8 @ litert-arm64: 3 of 2560 numbers differ from litert's, the largest by 1 " \
           "step" in flat  # fmt: skip
    assert "tflite-int8 @ browser: 0 of 2560 numbers differ from litert's" in flat
    assert "to tflite-float32" in text
    alone = shown(outputs.table(replace(report, latency=None))).splitlines()
    place = next(i for i, line in enumerate(alone) if "Pix|el (reported" in line)
    assert not alone[place - 1].strip()
    assert "all 4 compared rows pass" in text
    suites = ElementTree.fromstring(outputs.junit(report))
    said = {p.get("name"): p.get("value") for p in suites[1].iter("property")}
    assert said["evidence"] == "emulated" and "3 of 2560 numbers differ" in (said["versus"] or "")
    names = [suite.get("name") for suite in suites]
    assert len(set(names)) == 4 and "parity.tflite-int8 @ Pix|el" in names
    assert "Pix\\|el, reported" in outputs.markdown(report)


def test_nothing_compared_reads_as_such() -> None:
    text = shown(outputs.table(replace(REPORT, artifacts=(ABSENT,), latency=None)))
    assert "nothing was compared" in text
    assert "pass" not in text


def test_figures_are_never_rounded_up_to_all() -> None:
    assert wording.percent(0.9996) == "99.9%"
    assert wording.percent(1.0) == "100.0%"
    assert wording.percent(0.29) == "29.0%"
    assert wording.decibels(MAX_SQNR_DB) == "exact"
    assert wording.logits(0.0) == "0.000"
    assert wording.logits(1.2e-6) == "1.2e-06"


def test_junit_has_a_case_for_each_gate() -> None:
    root = ElementTree.fromstring(outputs.junit(REPORT))
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("6", "3", "1")
    suites = {suite.get("name"): suite for suite in root}
    int8 = suites["parity.tflite-int8"]
    assert [case.get("name") for case in int8.iter("testcase")] == [
        "top-1 agreement", "accuracy drop", "probabilities outside 0..1",
    ]  # fmt: skip
    failures = list(int8.iter("failure"))
    assert failures[0].get("message") == "top-1 agreement is 0.915, the limit is 0.93"
    assert "a|b/<img>.jpg" in (failures[0].text or "")
    skipped = list(suites["parity.saved-model"].iter("skipped"))
    assert "not installed" in (skipped[0].get("message") or "")
    assert len(list(suites["parity.mlmodel"].iter("failure"))) == 1


def test_junit_survives_characters_that_xml_cannot_hold() -> None:
    odd = replace(FAILING, flipped=(replace(FLIP, image="a\x01b\ud800.jpg"),))
    ElementTree.fromstring(outputs.junit(replace(REPORT, artifacts=(odd,), model="x\x00")))


def test_markdown_names_cannot_break_the_table_or_open_a_tag() -> None:
    text = outputs.markdown(REPORT)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert table[0].count("|") == 9
    assert {line.count("|") for line in table if "ms |" not in line and "LiteRT" not in line
            and "eager" not in line} == {9}  # fmt: skip
    assert "<img>" not in text
    assert "a\\|b/&lt;img&gt;.jpg" in text
    assert "❌ FAILED" in text
    assert "and 5 more" in text
    assert "⚪ not run" in text
    assert "not timed: mlmodel: evaluated, not run" in text


def test_the_job_summary_is_appended_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert not outputs.append_to_step_summary(SOUND)
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert outputs.append_to_step_summary(SOUND)
    assert path.read_text().startswith("before\n## Parity: all 1 compared files pass")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(UserError, match="job summary"):
        outputs.append_to_step_summary(SOUND)


def test_json_is_plain(tmp_path: Path) -> None:
    data = json.loads(json.dumps(REPORT.to_json(), allow_nan=False))
    assert data["passed"] is False
    assert data["artifacts"][1]["gates"][0] == {
        "name": "top-1 agreement", "value": 0.915, "limit": 0.93, "passed": False,
    }  # fmt: skip


def test_findings_name_what_to_do() -> None:
    text = shown(
        outputs.findings_table(
            [
                Finding("checksum", "model.onnx", "failed", "changed", "export the model again"),
                Finding("opens", "saved_model", "not run", "tensorflow is not installed"),
                Finding("opens", "model_int8.tflite", "ok", "LiteRT"),
            ]
        )
    )
    assert "to mend it: export the model again" in text
    assert "1 of 3 checks failed, 1 not run" in text


def test_doctor_knows_this_environment() -> None:
    diagnosis = doctor.examine()
    found = {library.name: library for library in diagnosis.libraries}
    assert found["numpy"].version is not None
    assert found["numpy"].extra is None
    assert found["torch"].extra == "torch"
    assert "pytest" not in found
    assert sum(name.startswith("tensorflow") for name in found) == 1
    assert [state.name for state in diagnosis.runtimes] == [
        "torch", "onnxruntime", "litert", "tensorflow", "coreml", "litert-arm64", "browser",
    ]  # fmt: skip
    text = shown(doctor.render(diagnosis), 100)
    assert "onnxruntime" in text


def test_doctor_tells_emulated_from_evaluated_and_never_hides_an_absent_runtime() -> None:
    runtimes = (
        doctor.RuntimeState("litert", "LiteRT 2.3.0", "run", None),
        doctor.RuntimeState("coreml", "strict evaluator", "evaluated", None),
        doctor.RuntimeState("litert-arm64", "LiteRT on ARM64", "emulated", None),
    )
    whole = replace(doctor.examine(), libraries=(), missing_extras=(), runtimes=runtimes)
    lines = shown(doctor.render(whole), 100).splitlines()
    said = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    assert [said[state.name] for state in runtimes] == ["runs", "evaluates", "emulates"]
    assert lines[-1] == "Everything is here."
    absent = doctor.RuntimeState("browser", None, "run", "LiteRT.js is not fetched")
    text = shown(doctor.render(replace(whole, runtimes=(*runtimes, absent))), 100)
    assert "Everything is here" not in text
    assert "Every Python package is here." in text


def test_doctor_says_how_to_get_what_is_missing() -> None:
    diagnosis = replace(
        doctor.examine(),
        libraries=(doctor.Library("torch", "torch", ">=2.6", None),
                   doctor.Library("numpy", None, ">=1.26", None)),
        runtimes=(doctor.RuntimeState("torch", None, "run", "torch is not installed"),),
        missing_extras=("torch", "coreml"),
    )  # fmt: skip
    text = shown(doctor.render(diagnosis))
    assert "pip install 'exporter[torch,coreml]'" in text
    assert "The core lacks numpy" in text
    assert "Everything is here" not in text


@pytest.mark.parametrize(
    ("line", "kept"),
    [('torch<3,>=2.6; extra == "torch"', ("torch", "torch", "<3,>=2.6")),
     ("numpy>=1.26", ("numpy", None, ">=1.26")),
     ('pytest>=8; extra == "test"', None),
     ('exporter[torch]; extra == "train"', None)],
)  # fmt: skip
def test_doctor_reads_requirements(line: str, kept: tuple[str, str | None, str] | None) -> None:
    found = doctor._parse(line)
    assert (None if found is None else (found.name, found.extra, found.wanted)) == kept
