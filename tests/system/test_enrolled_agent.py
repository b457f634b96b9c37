"""A real agent that enrols, trains over mutual TLS, and renews a certificate that has expired."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.enrolment.identity import load_identity, save_identity
from hub.api.control import ENDED, JobDetail
from hub.fleet.authority import DAY_S
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import ENVIRONMENT, SCRIPT
from tests.system.enrolled_site import EnrolledSite, open_enrolled_site
from tests.system.hub_process import poll
from tests.system.site import LOCAL
from tests.system.small_base import job_text

pytestmark = [pytest.mark.broker, pytest.mark.slow]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EnrolledSite]:
    with open_enrolled_site(tmp_path) as opened:
        yield opened


class Agent:
    """``lorikeet-agent run`` with nothing but its data and its state."""

    def __init__(self, folder: Path, state: Path) -> None:
        data = write_data(folder / "my.jsonl", marker="x")
        self._log = folder / "agent.log"
        command = [str(SCRIPT), "run", "--data", str(data), "--state", str(state), "--threads", "1"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def expire(site: EnrolledSite, name: str) -> None:
    """Put a certificate that expired in the place of the device's: as after months in a drawer."""
    state = site.state(name)
    identity = load_identity(state)
    assert identity is not None
    pem = (state / "identity" / "key.pem").read_bytes()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    then = time.time() - 200 * DAY_S
    old = site.authority.sign_client(identity.device, key.public_key(), then, 90 * DAY_S)
    note = msgspec.structs.replace(identity, not_before=old.not_before, not_after=old.not_after)
    save_identity(state, note, old.pem, site.authority.pem)


def test_an_agent_enrols_renews_what_has_expired_and_does_a_round(
    site: EnrolledSite, tmp_path: Path
) -> None:
    [token] = site.tokens()
    words = ["enroll", "--hub", site.url, "--name", "mini", "--state", str(site.state("mini"))]
    done = subprocess.run(
        [str(SCRIPT), *words],
        env=ENVIRONMENT | {"LORIKEET_TOKEN": token},
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "enrolled as mini of fleet test; the certificate is good for 90 days" in done.stdout
    expire(site, "mini")
    before = (site.state("mini") / "identity" / "key.pem").read_bytes()
    agent = Agent(tmp_path, site.state("mini"))
    try:
        poll("the renewal", lambda: "the certificate was renewed" in agent.log, 60)
        base = write_trainable_base(tmp_path / "base")
        site.hub.submit(
            job_text("tls", base, rounds=1, method="lora", cohort={"min": 1, "max": 1}, local=LOCAL)
        )

        def ended() -> JobDetail | None:
            detail = site.hub.job("tls")
            return detail if detail.summary.phase in ENDED else None

        job: JobDetail = poll("the job's end", ended, 240)
        assert job.summary.phase == "done", (job.summary, agent.log[-2000:])
        assert site.hub.accepted("tls") == [(1, "mini")]
        shown = site.show("mini")
        assert shown.telemetry is not None
        assert shown.telemetry.certificate_days_left == pytest.approx(90, abs=1)
        assert shown.identity is not None
        assert shown.identity.days_left == pytest.approx(90, abs=1)
        # The base came over HTTPS, by the hub's own authority.
        assert f"http at {site.url}" in site.hub.log
        # An operator who revokes it ends it, with the reason.
        site.decide("mini", "revoke")
        assert agent.process.wait(60) == 1
        assert "'mini' was revoked by the hub's operator" in agent.log
    finally:
        agent.close()
    assert (site.state("mini") / "identity" / "key.pem").read_bytes() == before
