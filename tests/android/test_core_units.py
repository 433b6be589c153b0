"""The core's own JUnit tests, and its style."""

from __future__ import annotations

import os
import re

import pytest

from support import core_replay, kotlin

missing = kotlin.unavailable()
pytestmark = pytest.mark.skipif(missing is not None, reason=missing or "")


def test_junit():
    jars = [core_replay.core_jar(), core_replay.tests_jar()]
    result = kotlin.run_junit(jars, core_replay.classes())
    assert result.failures == 0, result.output
    sources = [path.read_text() for path in core_replay.ROOT.rglob("*Test.kt")]
    written = sum(len(re.findall(r"^    @Test$", text, re.MULTILINE)) for text in sources)
    assert result.tests == written >= 25


def test_a_failing_junit_test_is_seen(tmp_path):
    source = tmp_path / "FailingTest.kt"
    source.write_text(
        "class FailingTest {\n    @org.junit.Test\n    fun `one is two`() {\n"
        "        org.junit.Assert.assertEquals(1, 2)\n    }\n}\n"
    )
    jar = kotlin.compile([source], kotlin.JUNIT)
    result = kotlin.run_junit([jar], ["FailingTest"])
    assert (result.tests, result.failures) == (1, 1)


def test_code_that_does_not_compile_is_seen(tmp_path):
    source = tmp_path / "Wrong.kt"
    source.write_text("fun unused() {\n    val value = 1\n}\n")
    with pytest.raises(kotlin.KotlinError, match="unused"):
        kotlin.compile([source])
    source.write_text("fun late(buffer: java.nio.ByteBuffer) = buffer.slice(1, 2)\n")
    with pytest.raises(kotlin.KotlinError, match="slice"):
        kotlin.compile([source])  # Java 13 has it, Android 7 has not


@pytest.mark.skipif(kotlin.ktlint_unavailable() is not None, reason="ktlint could not be fetched")
def test_ktlint_is_clean(tmp_path):
    assert kotlin.ktlint([core_replay.ROOT / "src"]) == []
    untidy = tmp_path / "Untidy.kt"
    untidy.write_text("fun  untidy( ) { }")
    assert kotlin.ktlint([untidy])


def test_buffers_are_moved_as_java_8_does_it():
    """`ByteBuffer.clear()` and the like give ByteBuffer from Java 9 on; old Androids lack that."""
    moved = re.compile(r"(?<!Buffer\))\.(position\(\w|limit\(\w|flip\(|clear\(|rewind\(|mark\()")
    for path in (core_replay.ROOT / "src" / "main").rglob("*.kt"):
        assert not moved.search(path.read_text()), path.name


def test_another_tarball_than_the_pinned_one_is_refused(tmp_path, monkeypatch):
    """A fake npm that packs something else: nothing of it is unpacked."""
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\nprintf forged > $1/x.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "cache"))
    assert "not the pinned tarball" in (kotlin.unavailable() or "")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_failing_npm_is_a_reason_to_skip(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("EXPORTER_CACHE", str(tmp_path / "cache"))
    assert "no network" in (kotlin.unavailable() or "")
