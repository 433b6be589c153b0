"""Swift in README and docs: its syntax, its names, and the arithmetic of the resize.

There is no Swift compiler here. Syntax is checked by tree-sitter-swift; the printed
functions without types of Apple's are rewritten into JavaScript by `_JAVASCRIPT`, rule by
rule, and run in Node against Pillow. That proves the printed arithmetic, not that Swift
compiles it.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snippets
from PIL import Image

from exporter.bundle import FORMATS
from exporter.prove import golden
from exporter.prove.runtimes.base import Pixels, Session
from models.contract import INPUT_NAME, OUTPUT_NAME, Contract, Label, Preprocessing
from models.images import list_images, resized_size, to_square

PAGE = snippets.ROOT / "docs" / "ios.md"
BLOCKS = snippets.snippets("swift")
CONTRACT = Contract(
    (Label("Adder", "Vipera berus", "yes"), Label("Grass snake", "Natrix natrix", "no")),
    Preprocessing(8, 8, 9),
)


@pytest.fixture(scope="module")
def grammar() -> Any:
    pytest.importorskip("tree_sitter", reason="it checks the syntax; it is in the extra test")
    return pytest.importorskip("tree_sitter_swift", reason="it is in the extra test")


def test_there_are_blocks() -> None:
    places = [block.where.split(":")[0] for block in BLOCKS]
    assert places.count("docs/ios.md") >= 7
    assert "README.md" in places


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_swift_is_well_formed(grammar: Any, block: snippets.Snippet) -> None:
    assert snippets.faults(grammar, block.code) == []


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_any_dropped_brace_is_found(grammar: Any, block: snippets.Snippet) -> None:
    places = [place for place, sign in enumerate(block.code) if sign in "{}()"]
    assert places
    for place in places:
        mutant = block.code[:place] + block.code[place + 1 :]
        assert snippets.faults(grammar, mutant) != [], block.code[place - 40 : place + 1]


def block_with(words: str) -> str:
    (found,) = [block.code for block in snippets.of_text(PAGE, "swift") if words in block.code]
    return found


def properties(code: str, struct: str) -> set[str]:
    """The names that a Swift `struct` declares with `let`, not those of structs inside it."""
    body = code[code.index(f"struct {struct}") :]
    indent = re.search(r"\n( +)", body)
    assert indent is not None
    body = body[: body.index("\n" + indent.group(1)[4:] + "}")]
    names = re.findall(rf"^{indent.group(1)}let (\w+):", body, re.MULTILINE)
    return {re.sub(r"([A-Z])", lambda found: "_" + found.group(1).lower(), name) for name in names}


def test_the_contract_is_read_by_the_names_it_has() -> None:
    several = replace(CONTRACT, activation="sigmoid", thresholds=(0.5, 0.5))
    code, written = block_with("struct Contract"), json.loads(several.dumps())
    assert properties(code, "Contract") == {"name", "input", "output", "labels"}
    assert properties(code, "Contract") <= set(written)
    for struct, where in (("Input", written["input"]), ("Output", written["output"])):
        found = properties(code, struct)
        assert len(found) >= 2
        assert found <= set(where)
    assert properties(code, "Label") == set(written["labels"][0])
    assert "resize_shorter_side" in properties(code, "Input")


def test_golden_answers_are_read_by_the_names_they_have(tmp_path: Path) -> None:
    class Even(Session):
        def probabilities(self, pixels: Pixels) -> Any:
            return np.array([0.5, 0.5], np.float32)

    random = np.random.default_rng(1)
    for label in CONTRACT.labels:
        (tmp_path / "images" / label.name).mkdir(parents=True)
        picture = random.integers(0, 256, (12, 15, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / label.name / "0.png")
    sessions = {"reference": Even(), "coreml": Even()}
    path = golden.write_golden(
        tmp_path / "dist", list_images(tmp_path / "images"), CONTRACT, sessions
    )
    written, code = json.loads(path.read_text()), block_with("GoldenTests")
    assert properties(code, "Golden") <= set(written)
    assert properties(code, "Square") <= set(written["images"][0])
    assert len(properties(code, "Photo")) == 3
    for photo in written["photos"]:
        assert properties(code, "Photo") <= set(photo)


def test_files_features_and_keys_are_those_that_are_written() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for row in FORMATS:
        if row.runtime == "coreml" and row.usual:
            assert f"`{row.path}`" in text
            assert re.search(rf"\b{row.key}\b", block_with("GoldenTests"))
    classifier = block_with("actor Classifier")
    assert f'["{INPUT_NAME}": MLFeatureValue' in classifier
    assert f'featureValue(for: "{OUTPUT_NAME}")' in classifier
    package = (snippets.ROOT / "exporter/convert/targets/coreml/package.py").read_text()
    for key in re.findall(r'own\?\["(\w+)"\]', block_with("struct Contract")):
        assert f'userDefined["{key}"]' in package


def test_vision_is_given_what_the_contract_says_and_answers_like_the_exact_way() -> None:
    short, answer = block_with("func contractRegion"), block_with("func answerWithVision")
    assert "regionOfInterest = contractRegion(" in short
    assert "imageCropAndScaleOption = .scaleFill" in short
    assert "classifyWithVision(image, orientation: orientation, model: model)" in answer
    assert 'contract.input.exif == "apply"' in answer
    classifier = block_with("actor Classifier")
    assert classifier.count("notSureThreshold") == 1  # in the one place that both ways go through
    for way in (classifier, answer):
        assert "return answer(found, count, " in way
    assert "try await classifier?.answer(file)" in block_with("struct ClassifierView")


# From Swift to JavaScript, line by line; what no rule changes means the same in both.
_JAVASCRIPT = (
    (r"(?s)struct RGBImage \{.*?\n\}\n", ""),
    (r"func (\w+)\(([^)]*)\)(?: -> [^{]+)? \{", lambda m: f"function {m[1]}({_names(m[2])}) {{"),
    (r"\b(?:let|var) (\w+)(?:: [^=\n]+)? =", r"let \1 ="),
    (r"for (\w+) in (.+)\.\.<(.+) \{", r"for (let \1 = \2; \1 < \3; \1++) {"),
    (r"for (\w+) in (\w+) \{", r"for (const \1 of \2) {"),
    (r"if (.+) \{", r"if (\1) {"),
    (r"\[UInt8\]\(repeating: 0, count: (.+)\)", r"new Uint8Array(\1)"),
    (r"\bCGRect\(", "Array.of("),
    (r"(?m)^( +)(?:x|y|width|height): ", r"\1"),
    (r"\bInt\(", "Math.trunc("),
    (r"\b(?:Double|UInt8)\(", "Number("),
    (r"\b(max|min|abs)\(", r"Math.\1("),
    (r"\.append\(", ".push("),
    (r"\.count\b", ".length"),
)
_RUN = """
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const answers = JSON.parse(require("fs").readFileSync(0, "utf8")).map((one) => ({
  square: Buffer.from(contractSquare({width: one.width, height: one.height,
    pixels: bytes(one.pixels)}, one.side, one.crop[0], one.crop[1])).toString("base64"),
  region: contractRegion(one.width, one.height,
    {width: one.crop[0], height: one.crop[1], resizeShorterSide: one.side}),
}));
console.log(JSON.stringify(answers));
"""
SIZES = [(1, 1), (7, 5), (5, 7), (31, 17), (40, 40), (23, 60), (120, 33), (64, 48), (200, 9)]
RULES = [
    Preprocessing(height=8, width=8, resize_shorter_side=9),
    Preprocessing(height=16, width=11, resize_shorter_side=16),
    Preprocessing(height=30, width=31, resize_shorter_side=33),
]


def _names(parameters: str) -> str:
    return ", ".join(one.split(":")[0].split()[-1] for one in parameters.split(","))


def javascript() -> str:
    region = block_with("func contractRegion")
    start = region.index("func contractRegion")
    code = block_with("func resizePass") + region[start : region.index("\n}\n", start) + 3]
    for pattern, replacement in _JAVASCRIPT:
        code = re.sub(pattern, replacement, code)  # type: ignore[call-overload]
    return code


def picture(width: int, height: int) -> Pixels:
    return np.random.default_rng(width * 1000 + height).integers(
        0, 256, (height, width, 3), np.uint8
    )


def run(code: str) -> list[tuple[tuple[int, int], Preprocessing, Pixels, list[float]]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node runs the rewritten Swift; it is not installed")
    cases = [(size, rule) for size in SIZES for rule in RULES]
    asked = [
        {
            "width": width, "height": height, "side": rule.resize_shorter_side,
            "crop": [rule.width, rule.height],
            "pixels": base64.b64encode(picture(width, height).tobytes()).decode(),
        }
        for (width, height), rule in cases
    ]  # fmt: skip
    done = subprocess.run(
        [node, "-e", code + _RUN],
        input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return [
        (size, rule, np.frombuffer(base64.b64decode(found["square"]), np.uint8), found["region"])
        for (size, rule), found in zip(cases, json.loads(done.stdout), strict=True)
    ]


def contract_square(pixels: Pixels, rule: Preprocessing) -> Pixels:
    """The contract by Pillow: the width first, in a call of its own, then the height."""
    image = Image.fromarray(pixels)
    width, height = resized_size(image.size, rule)
    for size in ((width, image.height), (width, height)):
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(to_square(image, rule))


def wrong(code: str) -> int:
    """How many of the cases differ from Pillow's pixels."""
    count = 0
    for (width, height), rule, found, _ in run(code):
        wanted = contract_square(picture(width, height), rule)
        count += not np.array_equal(found, wanted.reshape(-1))
    return count


def test_the_printed_resize_gives_pillows_bytes() -> None:
    assert wrong(javascript()) == 0


@pytest.mark.parametrize(
    ("from_", "to"),
    [
        ("let sum = 2097152", "let sum = 0"),
        ("let stretch = Math.max(scale, 1.0)", "let stretch = 1.0"),
        ("(center + stretch + 0.5)", "(center + stretch - 0.5)"),
        ("* 4194304.0 + 0.5)", "* 4194304.0)"),
        ("? half + 1 : half", "? half : half"),
        ("line * old + j : j * lines + line", "j * lines + line : line * old + j"),
    ],
)
def test_a_changed_resize_is_found(from_: str, to: str) -> None:
    code = javascript()
    assert from_ in code
    assert wrong(code.replace(from_, to)) > 0


def test_the_region_for_vision_is_the_crop() -> None:
    """Vision counts from the lower left; a row from the top is 1 - it."""
    for (width, height), rule, _, (x, y, wide, high) in run(javascript()):
        side = rule.resize_shorter_side
        new = (side, int(side * height / width)) if width <= height else (
            int(side * width / height), side
        )  # fmt: skip
        left, top = round((new[0] - rule.width) / 2), round((new[1] - rule.height) / 2)
        found = [x * new[0], (1 - y - high) * new[1], wide * new[0], high * new[1]]
        assert found == pytest.approx([left, top, rule.width, rule.height])
        assert min(x, y) >= -1e-12
        assert max(x + wide, y + high) <= 1 + 1e-12
