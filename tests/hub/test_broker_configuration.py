"""The text of mosquitto's configuration; tests/system/test_enrolment.py runs it."""

from pathlib import Path

import pytest

from hub.broker_configuration import BrokerOptions, Version, access_list, mosquitto_conf
from wire.topics import SENDERS, Topics


def conf(version: Version = "2.0", **changes: object) -> list[str]:
    options = BrokerOptions(folder=Path("/etc/broker"), version=version, **changes)  # type: ignore[arg-type]
    return [line for line in mosquitto_conf(options).splitlines() if line and line[0] != "#"]


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_every_listener_asks_for_a_certificate_and_goes_by_its_name(version: Version) -> None:
    lines = conf(version, websocket=8884)
    assert [line for line in lines if line.startswith("listener")] == [
        "listener 8883", "listener 8884",
    ]  # fmt: skip
    for needed in (
        "require_certificate true", "use_identity_as_username true", "cafile /etc/broker/ca.pem",
        "crlfile /etc/broker/crl.pem", "tls_version tlsv1.2",
    ):  # fmt: skip
        assert lines.count(needed) == 2
    assert "allow_anonymous false" in lines
    assert not any("use_username_as_clientid" in line for line in lines)


def test_what_differs_between_versions() -> None:
    old, new = set(conf("2.0")), set(conf("2.1"))
    assert old - new == {
        "acl_file /etc/broker/acl", "persistence true", "autosave_interval 60",
        "per_listener_settings false",
    }  # fmt: skip
    assert new - old == {
        "global_plugin /usr/lib/mosquitto_acl_file.so", "plugin_opt_acl_file /etc/broker/acl",
        "global_plugin /usr/lib/mosquitto_persist_sqlite.so", "plugin_opt_flush_period 1",
    }  # fmt: skip


def test_the_log_of_what_was_forbidden_can_be_left_out() -> None:
    assert "log_dest file /etc/broker/mosquitto.log" in conf()
    without = conf(log_denied=False)
    assert "log_dest stderr" in without
    assert not any("debug" in line or "mosquitto.log" in line for line in without)
    assert "log_dest topic" in without


def test_a_device_may_write_and_read_just_what_it_sends_and_gets() -> None:
    lines = access_list("clinics").splitlines()
    topics = Topics("clinics")
    granted = {line for line in lines if line.startswith("pattern")}
    expected = set()
    for kind, sender in SENDERS.items():
        if kind == "job_phase":  # for people who watch
            continue
        method = getattr(topics, kind)
        needs_device = kind not in ("hub_state", "job_round", "slice_chunk")
        topic = method("%u") if needs_device else method()
        expected.add(f"pattern {'write' if sender == 'device' else 'read'} {topic}")
    assert granted == expected
    assert "user hub" in lines
    assert "topic readwrite lorikeet/v1/clinics/#" in lines
