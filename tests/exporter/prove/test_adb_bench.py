"""Timing on a device behind a fake adb: what is sent, what is read, what is left there.

No device was at hand: these tests hold for the messages that LiteRT's source prints and
for the adb that tests/support/fake_adb.py plays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from exporter.prove.adb import client, states, tool
from exporter.prove.adb.bench import DeviceBench, DeviceSettings, measure, workplace
from models.errors import UserError
from support import fake_adb
from support.fake_adb import Scenario

ELF_ARM64 = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + b"\xb7\x00"
SETTINGS = DeviceSettings(runs=50, rounds=5, threads=2, pause_s=10, pause_limit_s=25)
QUICK = DeviceSettings(runs=50, rounds=2, threads=2, pause_s=10, pause_limit_s=25)
KEYS = ("tflite-float32", "tflite-int8")
Play = Callable[..., client.Device]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Installs a fake adb that behaves as told and gives its device."""

    def install(scenario: Scenario | None = None, serial: str | None = None) -> client.Device:
        for name, value in fake_adb.install(tmp_path / "fake", scenario or Scenario()).items():
            monkeypatch.setenv(name, value)
        adb = client.find_adb()
        return client.Device(adb, client.choose(client.attached(adb), serial))

    return install


def program(folder: Path) -> Path:
    path = folder / "benchmark_model"
    path.write_bytes(ELF_ARM64)
    return path


def run(
    device: client.Device,
    folder: Path,
    settings: DeviceSettings = QUICK,
    keys: Sequence[str] = KEYS,
    naps: list[float] | None = None,
) -> DeviceBench:
    model = folder / "model.tflite"
    model.write_bytes(b"fake")
    about = states.about(device)
    with workplace(device, program(folder)) as place:
        graphs = {key: place.path(f"{key}.tflite") for key in keys}
        for graph in graphs.values():
            device.push(model, graph)
        found = measure(
            place, about, graphs, settings, sleep=(naps if naps is not None else []).append
        )
    assert place.left is None
    return found


def left_on_device(folder: Path) -> list[Path]:
    return list((folder / "fake" / "tmp").iterdir())


def ramp(start: int, step: int = 10) -> list[int]:
    return [start + step * i for i in range(10)]


def test_medians_and_p90_are_those_computed_by_hand(play: Play, tmp_path: Path) -> None:
    """The tool's percentile p of n values is element p * n / 100 of the sorted ones.

    Round of 1000, 1100 .. 1900: median 1500, p95 1900, so p90 = 1500 + 400 * 40/45 =
    1855.6. Rounds start 1000, 1000, 2000, 1000, 9000 later: medians 1500, 1500, 2500,
    1500, 10500, of which the median is 1500; p90s 1855.6, 1855.6, 2855.6, ...
    """
    slow = [ramp(1000 + extra, 100) for extra in (0, 0, 1000, 0, 9000)]
    fast = [[500] * 9 + [3000]] * 5  # median 500, p95 3000: p90 = 500 + 2500 * 40/45
    scenario = Scenario(times={"tflite-float32.tflite": slow, "tflite-int8.tflite": fast})
    found = run(play(scenario), tmp_path, SETTINGS)
    latency = found.latency()
    assert [row.key for row in latency.results] == list(KEYS)
    assert latency.relative_to == "tflite-float32"
    first, second = latency.results
    assert first.median_ms == pytest.approx(1.5)
    assert first.p90_ms == pytest.approx(1.8555556)
    assert (first.ratio, first.runs) == (1.0, 50)
    assert second.median_ms == pytest.approx(0.5)
    assert second.p90_ms == pytest.approx(2.7222222)
    assert second.ratio == pytest.approx(1 / 3)
    assert latency.threads == 2
    assert latency.device == "Google Pixel 8, Android 15, Google Tensor G3, arm64-v8a"
    assert all(run.min_us in (500, 1000, 2000, 10000) for turn in found.turns for run in [turn.run])
    assert any("p90 is interpolated" in note for note in found.notes)


def test_every_round_begins_with_another_file(play: Play, tmp_path: Path) -> None:
    keys = ("tflite-float32", "tflite-float16", "tflite-int8")
    found = run(play(), tmp_path, SETTINGS, keys)
    order = [[turn.key for turn in found.turns if turn.round == number] for number in range(5)]
    assert [one[0] for one in order] == [keys[number % 3] for number in range(5)]
    assert all(sorted(one) == sorted(keys) for one in order)


def test_flags_reach_the_tool(play: Play, tmp_path: Path) -> None:
    run(play(), tmp_path, SETTINGS)
    scripts = [call[3] for call in fake_adb.calls(tmp_path / "fake") if "shell" in call]
    calls = [text for text in scripts if "--graph" in text]
    assert len(calls) == 10
    for flag in ("--num_threads=2", "--num_runs=10", "--min_secs=0", "--warmup_runs=10",
                 "--use_xnnpack=true"):  # fmt: skip
        assert all(flag in text.split() for text in calls)
    assert all(call[:2] == ["-s", "8A1X0Z"] for call in fake_adb.calls(tmp_path / "fake")[1:])


@pytest.mark.parametrize(
    ("delegate", "flag", "said"),
    [
        ("gpu", "--use_gpu=true", "GPU, part of the graph (66 of 69 operators)"),
        ("none", "--use_xnnpack=false", "CPU, LiteRT's own kernels"),
        ("xnnpack", "--use_xnnpack=true", "XNNPACK, part of the graph (66 of 69 operators)"),
    ],
)
def test_the_delegate_that_ran_is_named(
    play: Play, tmp_path: Path, delegate: str, flag: str, said: str
) -> None:
    found = run(play(), tmp_path, DeviceSettings(runs=50, rounds=1, delegate=delegate))
    assert {row.runtime for row in found.latency().results} == {said}
    assert any(flag in call[3] for call in fake_adb.calls(tmp_path / "fake") if len(call) > 3)


def test_a_delegate_that_took_nothing_is_said(play: Play, tmp_path: Path) -> None:
    scenario = Scenario(tool={"tflite-int8.tflite": "refused"})
    found = run(play(scenario), tmp_path, DeviceSettings(runs=50, rounds=1, delegate="gpu"))
    rows = {row.key: row.runtime for row in found.latency().results}
    assert rows["tflite-int8"] == "CPU: GPU took nothing of the graph"
    assert "gpu was asked for and did not run: tflite-int8" in found.notes


def test_states_are_noted(play: Play, tmp_path: Path) -> None:
    found = run(play(Scenario(level=41, tenths=302)), tmp_path)
    state = found.turns[0].before
    assert (state.battery_percent, state.charging, state.battery_c) == (41, True, 30.2)
    assert (state.thermal, state.skin_c) == (0, 31.4)  # not the cached 99
    assert "the device was charging, which warms it" in found.notes
    assert str(state) == "battery 41 %, charging, 30.2 °C, skin 31.4 °C, thermal status none"
    assert run(play(Scenario(usb="false")), tmp_path).turns[0].before.charging is False


def test_it_waits_while_the_device_is_hot(play: Play, tmp_path: Path) -> None:
    naps: list[float] = []
    found = run(play(Scenario(thermal=[2, 1, 0])), tmp_path, naps=naps)
    assert naps == [10, 10]
    assert found.paused_s == 20
    assert len(found.turns) == 4
    assert found.turns[0].before.thermal == 0


def test_a_device_that_stays_hot_is_not_measured(play: Play, tmp_path: Path) -> None:
    naps: list[float] = []
    with pytest.raises(client.AdbError, match="too hot") as raised:
        run(play(Scenario(thermal=[3])), tmp_path, naps=naps)
    assert naps == [10, 10, 5]  # the limit, 25 s
    assert "--pause-limit 0" in raised.value.mend
    assert left_on_device(tmp_path) == []


def test_heat_in_the_middle_keeps_the_complete_rounds(play: Play, tmp_path: Path) -> None:
    """A turn asks twice for the state; five cool turns are two rounds and a half."""
    found = run(play(Scenario(thermal=[0] * 10 + [1])), tmp_path, SETTINGS)
    assert [turn.round for turn in found.turns] == [0, 0, 1, 1]
    assert any(note.startswith("ended after 2 of 5 rounds") for note in found.notes)


def test_heat_is_measured_where_that_is_asked_for(play: Play, tmp_path: Path) -> None:
    naps: list[float] = []
    hot = DeviceSettings(runs=50, rounds=1, pause_limit_s=0)
    found = run(play(Scenario(thermal=[2])), tmp_path, hot, naps=naps)
    assert naps == []
    assert any("was warm in some turns" in note for note in found.notes)


def test_an_older_android_tells_no_heat(play: Play, tmp_path: Path) -> None:
    found = run(play(Scenario(thermal=[])), tmp_path)
    assert found.turns[0].before.thermal is None
    assert any("does not tell its thermal status" in note for note in found.notes)


def test_an_older_tool_gives_means_and_that_is_said(play: Play, tmp_path: Path) -> None:
    scenario = Scenario(
        tool={"tflite-float32.tflite": "old"},
        times={"tflite-float32.tflite": [ramp(1000, 100)] * 2},
    )
    found = run(play(scenario), tmp_path, keys=KEYS[:1])
    row = found.latency().results[0]
    assert (row.median_ms, row.p90_ms) == (pytest.approx(1.45), pytest.approx(1.9))
    assert any("'median' is the mean" in note for note in found.notes)


def test_equal_times_are_understood(play: Play, tmp_path: Path) -> None:
    found = run(play(Scenario(tool={"tflite-int8.tflite": "same"})), tmp_path)
    row = next(row for row in found.latency().results if row.key == "tflite-int8")
    assert (row.median_ms, row.p90_ms) == (4.321, 4.321)


def test_a_file_that_fails_does_not_end_the_rest(play: Play, tmp_path: Path) -> None:
    found = run(play(Scenario(tool={"tflite-int8.tflite": "crash"})), tmp_path)
    assert found.keys == ("tflite-float32",)
    ((key, reason),) = found.latency().not_timed
    assert key == "tflite-int8"
    assert "exit code 1" in reason
    assert "fail" in reason


def test_a_tool_that_fails_everywhere_is_an_error(play: Play, tmp_path: Path) -> None:
    scenario = Scenario(tool={f"{key}.tflite": "killed" for key in KEYS})
    with pytest.raises(tool.ToolError, match="failed on every file") as raised:
        run(play(scenario), tmp_path)
    assert "killed" in raised.value.why
    assert left_on_device(tmp_path) == []


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        ("garbage", "is there 0 times"),
        ("silent", "it printed nothing"),
        ("odd-average", "two averages"),
        ("odd-threads", "threads 7 where 2"),
        ("odd-order", "out of order"),
        ("one-line", "1 lines of statistics"),
    ],
)
def test_output_that_is_not_understood_is_refused(
    play: Play, tmp_path: Path, behaviour: str, why: str
) -> None:
    scenario = Scenario(tool={"tflite-int8.tflite": behaviour})
    with pytest.raises(tool.ToolError, match="not understood") as raised:
        run(play(scenario), tmp_path)
    assert why in raised.value.why
    assert "benchmark_model" in raised.value.mend
    assert left_on_device(tmp_path) == []


def test_a_stuck_tool_is_ended_and_removed(play: Play, tmp_path: Path) -> None:
    scenario = Scenario(tool={"tflite-float32.tflite": "stuck"})
    settings = DeviceSettings(runs=50, rounds=1, timeout_s=1.5)
    with pytest.raises(client.AdbError, match=r"did not end within 1\.5 s"):
        run(play(scenario), tmp_path, settings)
    assert left_on_device(tmp_path) == []
    ending = [c[3] for c in fake_adb.calls(tmp_path / "fake") if len(c) > 3 and "kill -9" in c[3]]
    assert len(ending) == 1


def test_a_broken_connection_is_an_error(play: Play, tmp_path: Path) -> None:
    with pytest.raises(client.AdbError, match="connection to 8A1X0Z broke"):
        run(play(Scenario(break_at=6)), tmp_path)
    assert left_on_device(tmp_path) == []


def test_a_full_device_is_an_error(play: Play, tmp_path: Path) -> None:
    with pytest.raises(client.AdbError, match="push") as raised:
        run(play(Scenario(full=True)), tmp_path)
    assert raised.value.mend == "make room on the device"
    assert left_on_device(tmp_path) == []


def test_words_reach_the_device_as_they_are(play: Play, tmp_path: Path) -> None:
    device = play()
    nasty = "a b; touch /data/local/tmp/owned $(echo x) `id` 'q' \"d\" | cat > z & \\ *"
    assert device.shell("printf", "%s", nasty).text == nasty
    assert device.shell("false").code == 1
    assert left_on_device(tmp_path) == []


def test_a_file_name_cannot_run_commands(play: Play, tmp_path: Path) -> None:
    device = play()
    local = tmp_path / "-x; touch owned $(touch owned).tflite"
    local.write_bytes(b"fake")
    device.push(local, "/data/local/tmp/model.tflite")
    assert [path.name for path in left_on_device(tmp_path)] == ["model.tflite"]
    assert fake_adb.calls(tmp_path / "fake")[-1][3] == str(local)


@pytest.mark.parametrize(
    ("listed", "serial", "what", "mend"),
    [
        ([], None, "No Android device", "USB debugging"),
        ([("A", "device"), ("B", "device")], None, "2 Android devices", "--serial A"),
        ([("A", "unauthorized")], None, "cannot be used", "Allow USB debugging"),
        ([("A", "offline")], None, "cannot be used", "kill-server"),
        ([("A", "no permissions (user in plugdev group; are your udev rules wrong?)")],
         None, "cannot be used", "udev"),
        ([("A", "device")], "Z", "No device Z", "--serial"),
        ([("A", "device"), ("B", "offline")], "B", "cannot be used", "replug"),
        ([("A", "rescue")], None, "cannot be used", "adb devices"),
    ],
)  # fmt: skip
def test_devices_that_cannot_be_used(
    play: Play, listed: list[tuple[str, str]], serial: str | None, what: str, mend: str
) -> None:
    with pytest.raises(client.AdbError, match=what) as raised:
        play(Scenario(listed=listed), serial)
    assert mend in raised.value.mend


def test_one_of_several_devices_is_taken_by_its_serial(play: Play) -> None:
    listed = [("A", "device"), ("B", "device"), ("C", "offline")]
    assert play(Scenario(listed=listed), "B").serial == "B"
    assert play(Scenario(listed=listed[1:])).serial == "B"


def test_without_adb_it_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(client.AdbError, match="not found"):
        client.find_adb()


def test_adb_of_the_sdk_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program_ = tmp_path / "platform-tools" / "adb"
    program_.parent.mkdir()
    program_.write_text("")
    program_.chmod(0o755)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert client.find_adb() == str(program_)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (ELF_ARM64[:18] + b"\x3e\x00", "the device runs arm64-v8a"),
        (ELF_ARM64[:18] + b"\x28\x00", None),  # a 32-bit tool on a device that runs both
        (b"PK\x03\x04" + bytes(20), "an archive or an .apk"),
        (b"\xcf\xfa\xed\xfe" + bytes(20), "no program for Android"),
        (b"", "no program for Android"),
        (None, "No such file"),
    ],
)
def test_the_tool_has_to_fit_the_device(
    tmp_path: Path, content: bytes | None, why: str | None
) -> None:
    path = tmp_path / "tool"
    if content is not None:
        path.write_bytes(content)
    abis = ("arm64-v8a", "armeabi-v7a")
    if why is None:
        assert tool.check_tool(path, abis) == "armeabi-v7a"
        return
    with pytest.raises(tool.ToolError) as raised:
        tool.check_tool(path, abis)
    assert why in raised.value.why


def test_settings_are_checked() -> None:
    for wrong in ({"runs": 49}, {"rounds": 0}, {"threads": 0}, {"delegate": "tpu"}):
        with pytest.raises(UserError):
            DeviceSettings(**wrong)  # type: ignore[arg-type]


def test_an_emulator_is_called_one(play: Play, tmp_path: Path) -> None:
    found = run(play(Scenario(props={**fake_adb.PIXEL, "ro.kernel.qemu": "1"})), tmp_path)
    assert found.about.title.startswith("emulator ")
    assert any("emulator" in note for note in found.notes)
