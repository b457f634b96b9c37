"""Each check by itself: folders, clocks and certificates made as they must be."""

import hashlib
import time
from pathlib import Path

import msgspec
import pytest

from edge_agent.doctor.agent import check_agent
from edge_agent.doctor.certificate import check_certificate, valid_until
from edge_agent.doctor.clock import check_clock, compared
from edge_agent.doctor.condition import check_conditions
from edge_agent.doctor.contract import Finding, Subject
from edge_agent.doctor.data import check_data
from edge_agent.doctor.model import check_models
from edge_agent.doctor.room import check_disk, check_memory
from edge_agent.doctor.runtime import check_runtime
from edge_agent.fetch import COMPLETE
from edge_agent.heartbeat import FILE, Sign
from edge_agent.task_run import Settings
from tests.certificates import OPENSSL, Authority
from wire.broker_settings import BrokerSettings
from wire.messages import RungPlan

NOW = time.time()
PLAN = RungPlan(
    role="lora",
    rung="streamed",
    rank=8,
    batch=1,
    seq_len=64,
    predicted_peak_bytes=400_000_000,
    fits=True,
    reason="streamed: 400 MB",
)
NONE = msgspec.structs.replace(PLAN, role="none", rung="none", reason="none: 30 MB are missing")


def subject(folder: Path, **more: object) -> Subject:
    given = {"folder": folder, "settings": None, "root": Path("/"), "now": NOW} | more
    return Subject(**given)  # type: ignore[arg-type]


def settings(folder: Path, **more: object) -> Settings:
    given: dict[str, object] = {
        "broker": "mqtt://127.0.0.1:9",
        "fleet": "f",
        "device": "d",
        "data": [],
        "state_folder": str(folder),
    }
    return Settings(**(given | more))  # type: ignore[arg-type]


def levels(found: list[Finding]) -> list[str]:
    return [one.level for one in found]


def sign(folder: Path, *, age_s: float = 5.0, welcomed: bool = True, **plans: RungPlan) -> None:
    one = Sign(
        pid=7,
        device="d",
        session="s",
        ts=NOW - age_s,
        welcomed=welcomed,
        state="ready",
        plans=plans,
    )
    (folder / FILE).write_bytes(msgspec.json.encode(one))


def test_an_agent_that_lives_is_well_and_tells_its_jobs(tmp_path: Path) -> None:
    sign(tmp_path, clinic=PLAN, ward=NONE)
    found = check_agent(subject(tmp_path))
    assert [(one.check, one.level) for one in found] == [
        ("agent", "ok"), ("job clinic", "ok"), ("job ward", "warn"),
    ]  # fmt: skip
    assert "30 MB are missing" in found[2].found


def test_a_silent_agent_and_a_missing_one_fail_and_one_without_a_hub_is_warned_of(
    tmp_path: Path,
) -> None:
    assert levels(check_agent(subject(tmp_path))) == ["fail"]
    sign(tmp_path, age_s=1000.0)
    assert levels(check_agent(subject(tmp_path))) == ["fail"]
    sign(tmp_path, welcomed=False)
    assert levels(check_agent(subject(tmp_path))) == ["warn"]


def test_a_clock_that_begins_at_1970_fails(tmp_path: Path) -> None:
    assert levels(check_clock(subject(tmp_path, now=86_400.0))) == ["fail"]
    assert check_clock(subject(tmp_path))[0].level in ("ok", "warn")  # the kernel may not know


@pytest.mark.parametrize(
    ("apart_s", "level"), [(0, "ok"), (-59, "ok"), (61, "warn"), (-61, "warn"), (-3600, "fail")]
)
def test_a_clock_apart_from_the_hubs_is_told(apart_s: float, level: str) -> None:
    assert compared(1000.0 + apart_s, 1000.0).level == level


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")
def test_a_certificate_is_judged_by_the_days_it_has_left(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.sign("d")  # for two days
    broker = BrokerSettings(
        url="mqtts://127.0.0.1:9",
        ca_file=str(authority.certificate),
        cert_file=str(certificate),
        key_file=str(key),
    )
    its = settings(tmp_path, broker=broker)
    assert abs(valid_until(certificate) - time.time() - 2 * 86_400) < 600
    day = 86_400.0
    for days, level in ((-10, "ok"), (0, "warn"), (3, "fail")):
        found = check_certificate(subject(tmp_path, settings=its, now=NOW + days * day))
        assert levels(found) == [level]


def test_a_certificate_that_is_not_there_fails_and_none_at_all_says_nothing(
    tmp_path: Path,
) -> None:
    broker = BrokerSettings(url="mqtts://127.0.0.1:9", cert_file=str(tmp_path / "gone.pem"))
    found = check_certificate(subject(tmp_path, settings=settings(tmp_path, broker=broker)))
    assert levels(found) == ["fail"]
    assert "gone.pem" in found[0].found
    assert check_certificate(subject(tmp_path, settings=settings(tmp_path))) == []


def test_a_folder_that_is_a_file_takes_no_files(tmp_path: Path) -> None:
    assert levels(check_disk(subject(tmp_path / "not yet"))) in (["ok"], ["warn"])
    assert levels(check_disk(subject(Path("/proc/self")))) == ["fail"]


def test_memory_that_no_longer_suffices_for_the_chosen_rung_is_warned_of(tmp_path: Path) -> None:
    sign(tmp_path, clinic=PLAN, ward=NONE)
    enough = settings(tmp_path, memory_bytes=500_000_000)
    assert levels(check_memory(subject(tmp_path, settings=enough))) == ["ok"]
    short = settings(tmp_path, memory_bytes=300_000_000)
    found = check_memory(subject(tmp_path, settings=short))
    assert levels(found) == ["warn"]
    assert "412 MB" in found[0].found  # 400 and three percent


def test_a_model_whose_file_changed_fails(tmp_path: Path) -> None:
    weights = b"weights"
    listed = {
        "path": "model.gguf",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "size_bytes": len(weights),
    }
    payload = msgspec.json.encode({"files": [listed]})
    folder = tmp_path / "models" / hashlib.sha256(payload).hexdigest()
    folder.mkdir(parents=True)
    assert levels(check_models(subject(tmp_path))) == ["warn"]  # on its way
    (folder / "model.gguf").write_bytes(weights)
    (folder / COMPLETE).write_bytes(payload)
    assert levels(check_models(subject(tmp_path))) == ["ok"]
    (folder / "model.gguf").write_bytes(b"weighty")
    (found,) = check_models(subject(tmp_path))
    assert found.level == "fail"
    assert "model.gguf" in found.found
    (folder / COMPLETE).write_bytes(b"another list")
    assert levels(check_models(subject(tmp_path))) == ["fail"]


def test_a_runtime_is_loaded_for_real(tmp_path: Path) -> None:
    found = check_runtime(subject(tmp_path))
    assert {one.level for one in found} == {"ok"}
    assert any(one.found.startswith("torch ") for one in found)


def test_text_is_counted_and_its_absence_fails(tmp_path: Path) -> None:
    text = tmp_path / "my.txt"
    text.write_text("a line of private text\n\n" * 40)
    (found,) = check_data(subject(tmp_path, settings=settings(tmp_path, data=[str(text)])))
    assert found.level == "ok"
    assert "private" not in found.found
    text.unlink()
    found_gone = check_data(subject(tmp_path, settings=settings(tmp_path, data=[str(text)])))
    assert levels(found_gone) == ["fail"]


def test_a_device_that_is_too_hot_is_warned_of(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("soc\n")
    for celsius, level in ((50, "ok"), (90, "warn")):
        (zone / "temp").write_text(f"{celsius}000\n")
        found = check_conditions(subject(tmp_path, root=tmp_path))
        assert levels(found) == [level]
        assert f"{celsius} °C" in found[0].found
