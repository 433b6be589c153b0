"""The page's contract.js against models/answers.py, in plain Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exporter
from models.answers import present
from models.contract import Contract, Label

STATIC = Path(exporter.__file__).parent / "serve" / "static"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

SCRIPT = """
import { readFileSync } from 'node:fs';
const [modules, job] = process.argv.slice(1);
const { present, rank, readContract } = await import(modules + '/contract.js');
const answers = [];
for (const { contract, probabilities } of JSON.parse(readFileSync(job))) {
  try {
    const read = readContract(contract);
    const given = Float32Array.from(probabilities);
    const found = rank(read, given);
    answers.push({
      sure: found.sure,
      top: found.top.map(({ index }) => index),
      present: found.present.map(({ index }) => index),
      there: present(read, given),
    });
  } catch (error) {
    answers.push({ error: error.message });
  }
}
console.log(JSON.stringify(answers));
"""
LABELS = tuple(Label(name) for name in "abcde")
PLAIN = Contract(LABELS, activation="sigmoid", not_sure_threshold=0.4)
OWN = replace(PLAIN, thresholds=(0.7, 0.7, 0.2, 0.2, 0.0))


def run_node(folder: Path, jobs: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    job = folder / "job.json"
    content = [{"contract": text, "probabilities": list(map(float, p))} for text, p in jobs]
    job.write_text(json.dumps(content), encoding="utf-8")
    command = [str(NODE), "--input-type=module", "-e", SCRIPT, "--", STATIC.as_uri(), str(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_the_page_finds_what_python_finds(tmp_path: Path) -> None:
    below = np.nextafter(np.float32(0.7), np.float32(0))
    vectors = [np.float32([0.7, below, 0.2, 0.19, 0.0]), np.float32([0.9, 0.8, 0.5, 0.6, 0.3])]
    random = np.random.default_rng(2).random((20, 5), np.float32)
    cases = [(contract, v) for contract in (PLAIN, OWN) for v in (*vectors, *random)]
    found = run_node(tmp_path, [(contract.dumps(), v) for contract, v in cases])
    for answer, (contract, v) in zip(found, cases, strict=True):
        there = np.flatnonzero(present(v, contract.class_thresholds)).tolist()
        order = sorted(range(5), key=lambda k: (-v[k], k))
        assert answer == {
            "sure": bool(there),
            "top": order[:3],
            "present": [k for k in order if k in there],
            "there": there,
        }
    assert found[22]["present"] == [0, 2, 4]
    assert len({tuple(answer["there"]) for answer in found}) > 5


def test_one_answer_is_the_first_where_it_suffices(tmp_path: Path) -> None:
    one = replace(PLAIN, activation="softmax")
    vectors = [np.float32([0.1, 0.5, 0.4, 0, 0]), np.float32([0.3, 0.3, 0.2, 0.1, 0.1])]
    sure, unsure = run_node(tmp_path, [(one.dumps(), v) for v in vectors])
    assert (sure["sure"], sure["present"], sure["top"]) == (True, [1], [1, 2, 0])
    assert (unsure["sure"], unsure["present"], unsure["top"]) == (False, [], [0, 1, 2])


@pytest.mark.parametrize(
    ("thresholds", "activation"),
    [([0.5], "sigmoid"), ([0.5] * 4 + [1.5], "sigmoid"), ("high", "sigmoid"),
     ([0.5] * 4 + ["1"], "sigmoid"), ([0.5] * 5, "softmax")],
)  # fmt: skip
def test_thresholds_that_make_no_sense_are_refused(
    tmp_path: Path, thresholds: Any, activation: str
) -> None:
    content = OWN.to_json()
    content["output"].update(thresholds=thresholds, activation=activation)
    (answer,) = run_node(tmp_path, [(json.dumps(content), np.zeros(5))])
    assert "output.thresholds" in answer["error"]
