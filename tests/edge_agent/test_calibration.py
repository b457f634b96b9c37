"""What is kept of a measurement, how long it holds, and what the planner makes of it."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import msgspec
import pytest

from edge_agent import calibration
from edge_agent.calibration import (
    Calibration,
    Measured,
    Speed,
    kernel_share,
    load_calibration,
    present_key,
    save_calibration,
)

MB = 1_000_000
NAME = "calibration-2.json"
LEAN = Measured(
    lean_bytes=200 * MB,
    kernel_bytes={"bf16": 40 * MB, "f32": 20 * MB},
    speeds={"bf16": Speed(flops_per_s=4e11, made_bytes_per_s=5e8)},
    expand_per_s={"q4_0": 9e8},
)
FULL = msgspec.structs.replace(LEAN, full_bytes=330 * MB, wide=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return our folder in a cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lorikeet"


@pytest.fixture
def state(tmp_path: Path, cache: Path) -> Path:
    return tmp_path / "state"


def made(measured: Measured = FULL, **changed: str) -> Calibration:
    return Calibration(key=present_key(2) | changed, measured=measured)


# The key


def test_the_key_names_what_the_figures_depend_on() -> None:
    key = present_key(3)
    for name in ("torch", "transformers", "peft", "tokenizers", "numpy"):
        assert key[name] == importlib.metadata.version(name)
    assert key["python"] == sys.version.split()[0]
    assert key["machine"] == platform.machine()
    assert key["page_bytes"] == str(os.sysconf("SC_PAGE_SIZE"))
    assert key["threads"] == "3"


def test_a_part_that_is_missing_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch-9.8+cpu.dist-info").mkdir()
    (tmp_path / "numpy_stubs-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "nowhere.zip"), str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    key = present_key(1)
    assert (key["torch"], key["numpy"]) == ("9.8+cpu", "none")


# Keeping


def test_a_calibration_is_kept_in_both_places_and_either_will_do(cache: Path, state: Path) -> None:
    save_calibration(state, 2, made())
    assert [file.name for file in state.iterdir()] == [NAME]
    assert (cache / NAME).read_bytes() == (state / NAME).read_bytes()
    assert load_calibration(state, 2) == made()
    assert load_calibration(state.with_name("other-agent"), 2) == made()
    (cache / NAME).unlink()
    assert load_calibration(state, 2) == made()


def test_nothing_is_known_of_another_number_of_threads(state: Path) -> None:
    assert load_calibration(state, 2) is None
    save_calibration(state, 2, made())
    assert load_calibration(state, 1) is None


def test_the_cache_goes_before_the_state_folder(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_calibration(state, 2, made(FULL))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other-cache"))
    save_calibration(tmp_path / "elsewhere", 2, made(LEAN))
    assert load_calibration(state, 2) == made(LEAN)


def test_without_a_cache_s_variable_it_is_in_the_home_folder(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    save_calibration(state, 2, made())
    assert (tmp_path / "home" / ".cache" / "lorikeet" / NAME).is_file()


def test_a_user_without_a_home_has_the_state_folder_alone(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)  # nobody's
    save_calibration(state, 2, made())
    assert load_calibration(state, 2) == made()


@pytest.mark.parametrize("name", sorted(present_key(2)))
def test_any_change_of_the_key_makes_it_stale(state: Path, name: str) -> None:
    save_calibration(state, 2, made(**{name: "another"}))
    assert load_calibration(state, 2) is None


def test_a_key_with_more_or_less_in_it_is_another_version_s(state: Path) -> None:
    save_calibration(state, 2, made(disk="quick"))
    assert load_calibration(state, 2) is None
    save_calibration(state, 2, Calibration(measured=FULL))
    assert load_calibration(state, 2) is None


def test_a_stale_file_in_the_cache_hides_no_fresh_one(cache: Path, state: Path) -> None:
    save_calibration(state, 2, made(torch="0.1"))
    stale = (cache / NAME).read_bytes()
    save_calibration(state, 2, made())
    (cache / NAME).write_bytes(stale)
    assert load_calibration(state, 2) == made()


BROKEN = {
    "empty": b"",
    "cut short": b'{"key": {"torch": "2',
    "no object": b"[]",
    "no UTF-8": b'{"key": {"torch": "\xff"}}',
    "nested": b'{"x":' + b"[" * 40_000,
    "less than nothing": b'{"measured": {"lean_bytes": -1}}',
    "nothing measured": b'{"measured": {}}',
    "infinitely slow": b'{"measured": {"lean_bytes": 1, "speeds": {"bf16": '
    b'{"flops_per_s": 0, "made_bytes_per_s": 1}}}}',
    "endless": msgspec.json.encode(made())[:-1] + b" " * 100_000 + b"}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_passed_over_and_told(
    cache: Path, state: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    save_calibration(state, 2, made())
    (cache / NAME).write_bytes(content)
    assert load_calibration(state, 2) == made()
    assert [str(cache / NAME) in record.getMessage() for record in caplog.records] == [True]
    (state / NAME).write_bytes(content)
    assert load_calibration(state, 2) is None


def test_a_folder_in_the_file_s_place_is_passed_over(cache: Path, state: Path) -> None:
    (cache / NAME).mkdir(parents=True)
    save_calibration(state, 2, made())
    assert load_calibration(state, 2) == made()
    assert [file.name for file in cache.iterdir()] == [NAME]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_a_full_disk_costs_a_warning_and_leaves_nothing_behind(
    cache: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(parents=True)
    (cache / f"calibration-2.{os.getpid()}.part").symlink_to("/dev/full")
    save_calibration(state, 2, made())
    (record,) = caplog.records
    assert str(cache / NAME) in record.getMessage()
    assert "No space left on device" in record.getMessage()
    assert list(cache.iterdir()) == []
    assert load_calibration(state, 2) == made()


def test_a_folder_that_can_t_be_made_costs_a_warning(
    cache: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state.write_text("a file")
    save_calibration(state / "below", 2, made())
    (record,) = caplog.records
    assert (record.levelname, str(state) in record.getMessage()) == ("WARNING", True)
    assert load_calibration(state / "below", 2) == made()  # from the cache


# What it says


def test_the_runtime_is_the_supervisor_s_and_the_worker_s() -> None:
    # 28 MB of the supervisor, and what the worker measured of itself.
    assert made(FULL).runtime_bytes(full=False) == (28 + 200) * MB
    assert made(FULL).runtime_bytes(full=True) == (28 + 330) * MB
    # There was no room for transformers and PEFT: 130 MB more, as elsewhere.
    assert made(LEAN).runtime_bytes(full=True) == (28 + 200 + 130) * MB


def test_a_device_that_was_not_measured_weighs_what_others_do() -> None:
    unknown = Calibration()
    assert unknown.runtime_bytes(full=False) == (28 + 190) * MB
    assert unknown.runtime_bytes(full=True) == (28 + 190 + 130) * MB
    assert unknown.kernel_bytes(2, 1024) == unknown.kernel_bytes(4, 1024) == 36 * MB


@pytest.mark.parametrize(
    ("hidden", "share"),
    [
        # Below 1024, 0.1 less for each time it halves.
        (1024, 1.0),
        (512, 0.9),
        (256, 0.8),
        (64, 0.6),
        (16, 0.6),  # the least matrices are all alike
        (2048, 1.0),
        (4096, 1.0),
    ],
)
def test_wider_models_have_more_kernels(hidden: int, share: float) -> None:
    assert kernel_share(hidden) == pytest.approx(share)
    assert made().kernel_bytes(2, hidden) == pytest.approx(share * 40 * MB, abs=1)
    assert made().kernel_bytes(4, hidden) == pytest.approx(share * 20 * MB, abs=1)


def test_a_kind_of_numbers_that_was_not_measured_leaves_what_it_does_elsewhere() -> None:
    some = made(msgspec.structs.replace(LEAN, kernel_bytes={"f32": 20 * MB}))
    assert some.kernel_bytes(2, 1024) == 36 * MB
    assert some.kernel_bytes(4, 1024) == 20 * MB


def test_numbers_are_bfloat16_where_the_file_has_no_more_and_it_was_quick() -> None:
    slow = made(msgspec.structs.replace(LEAN, speeds={"f32": LEAN.speeds["bf16"]}))
    assert [made().compute_bytes(stored) for stored in (0.56, 2.0, 2.06, 4.0)] == [2, 2, 2, 4]
    assert [slow.compute_bytes(stored) for stored in (0.56, 2.0, 2.06, 4.0)] == [4, 4, 4, 4]


@pytest.mark.parametrize("quick", [False, True])
def test_the_processor_s_flags_decide_where_nothing_was_measured(
    monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    monkeypatch.setattr(calibration, "fast_bf16", lambda: quick)
    assert Calibration().bf16 is quick
    assert Calibration().compute_bytes(2.0) == (2 if quick else 4)
