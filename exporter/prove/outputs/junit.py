"""JUnit XML: a test suite a file, a test case a gate; what CI systems show by themselves."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from exporter.prove.outputs import wording
from exporter.prove.results import ArtifactResult, ParityReport

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


def junit(report: ParityReport) -> str:
    """The report as JUnit XML: failed gates are failures, files not run are skipped."""
    root = ElementTree.Element("testsuites", name=_clean(f"parity of {report.model}"))
    totals = {"tests": 0, "failures": 0, "skipped": 0}
    for artifact in report.artifacts:
        suite = _suite(artifact, report)
        root.append(suite)
        for key in totals:
            totals[key] += int(suite.get(key, "0"))
    for key, count in totals.items():
        root.set(key, str(count))
    ElementTree.indent(root)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        + ElementTree.tostring(root, encoding="unicode")
        + "\n"
    )


def _suite(artifact: ArtifactResult, report: ParityReport) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=_clean(f"parity.{artifact.title}"))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (
        ("reference", report.reference),
        ("runtime", artifact.version),
        ("evidence", artifact.evidence),
        ("images", str(artifact.images)),
        ("versus", wording.versus(artifact) or ""),
    ):
        ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
    failures = skipped = 0
    if artifact.status == "not run":
        case = _case(suite, artifact, "comparison")
        ElementTree.SubElement(case, "skipped", message=_clean(artifact.reason))
        skipped = 1
    elif not artifact.gates:
        case = _case(suite, artifact, "comparison")
        ElementTree.SubElement(case, "failure", message=_clean(artifact.reason))
        failures = 1
    for check in artifact.gates:
        case = _case(suite, artifact, check.name)
        if not check.passed:
            failures += 1
            failure = ElementTree.SubElement(case, "failure", message=_clean(wording.gate(check)))
            failure.text = _clean("\n".join(wording.flip(flip) for flip in artifact.flipped[:50]))
    suite.set("tests", str(max(len(artifact.gates), 1)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(skipped))
    return suite


def _case(suite: ElementTree.Element, artifact: ArtifactResult, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=_clean(f"parity.{artifact.title}"), name=_clean(name)
    )


def _clean(text: str) -> str:
    return _ILLEGAL.sub("?", text)
