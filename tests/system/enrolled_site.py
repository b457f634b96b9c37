"""A hub with enrolment and a real mosquitto as ``broker-config`` writes it: mutual TLS."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from edge_agent.enrolment.enrol import Wishes, enrol
from edge_agent.enrolment.identity import Identity, with_certificate
from hub.api.control import DeviceDetail, DoorNote, TokenOrder
from hub.cli.client import HubClient
from hub.fleet.authority import Authority, key_pem, new_key, open_authority
from tests.conftest import MOSQUITTO
from tests.system.hub_process import FLEET, HubProcess, poll
from wire.broker_settings import BrokerSettings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EnrolledSite:
    """A hub, a broker beside it, and what a test does as their operator.

    Args:
        folder: for everything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker_folder = folder / "broker"
        self.port, self.websocket, https = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{https}"
        self.broker_url = f"mqtts://127.0.0.1:{self.port}"
        (folder / "hub").mkdir(parents=True)
        self.hub = HubProcess(folder / "hub", self.broker_url)
        with self.hub._config.open("a") as config:
            config.write(
                f"enrolment:\n  listen: 127.0.0.1:{https}\n  broker_folder: {self.broker_folder}\n"
            )
        self._broker: subprocess.Popen[bytes] | None = None

    # Processes

    def start(self) -> None:
        self.configure()
        self.start_broker()
        self.hub.start()
        poll("the hub's link", lambda: "connected to the broker" in self.hub.log)

    def configure(self, *words: str) -> None:
        """Run ``lorikeet-hub broker-config``."""
        script = Path(sys.executable).with_name("lorikeet-hub")
        subprocess.run(
            [
                str(script), "broker-config", "--config", str(self.hub._config),
                "--out", str(self.broker_folder), "--listen", str(self.port),
                "--websocket", str(self.websocket), "--address", "127.0.0.1", "--user", "root",
                *words,
            ],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip

    def start_broker(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self._broker = subprocess.Popen(
                [str(MOSQUITTO), "-c", str(self.broker_folder / "mosquitto.conf")],
                stdout=log, stderr=log,
            )  # fmt: skip

        def accepts() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        poll("mosquitto", accepts)

    def close(self) -> None:
        self.hub.kill9()
        if self._broker is not None:
            self._broker.kill()
            self._broker.wait()

    # As the operator

    def tokens(
        self, count: int = 1, *, preauthorised: bool = True, expires_s: float = 60.0
    ) -> list[str]:
        order = TokenOrder(count=count, preauthorised=preauthorised, expires_s=expires_s)
        with HubClient(self.hub.url) as client:
            return client.make_tokens(order).tokens

    def decide(self, device: str, what: str, reason: str = "") -> DeviceDetail:
        with HubClient(self.hub.url) as client:
            return client.decide(device, what, reason)

    def show(self, device: str) -> DeviceDetail:
        with HubClient(self.hub.url) as client:
            return client.device(device)

    def listed(self) -> dict[str, str | None]:
        """Return what ``device list`` shows: the identity's state, by device."""
        with HubClient(self.hub.url) as client:
            return {one.device: one.identity for one in client.devices()}

    def await_note(self, kind: str, *words: str, device: str | None = None) -> DoorNote:
        """Return the first note of a kind (of a device) with these words, waiting for it."""

        def found() -> DoorNote | None:
            with HubClient(self.hub.url) as client:
                for one in client.door():
                    if (
                        one.kind == kind
                        and one.device == device
                        and all(w in one.detail for w in words)
                    ):
                        return one
            return None

        note: DoorNote = poll(f"a note {kind} of {device} with {words}", found)
        return note

    # As a device

    def state(self, name: str) -> Path:
        return self.folder / "devices" / name

    def enrol(self, name: str, token: str | None = None, state: str | None = None) -> Identity:
        wishes = Wishes(hub=self.url, token=token or self.tokens()[0], name=name)
        return enrol(self.state(state or name), wishes, lambda _: None, time.sleep)

    def settings(self, name: str) -> BrokerSettings:
        """Return with what an enrolled device connects."""
        return with_certificate(BrokerSettings(url=self.broker_url), self.state(name))

    # As somebody who has the authority's key, to make what the hub would not

    @property
    def authority(self) -> Authority:
        return open_authority(self.folder / "hub" / "state" / "authority", FLEET, time.time())

    def certified(
        self, name: str, authority: Authority, now: float, lifetime_s: float = 3600.0
    ) -> BrokerSettings:
        """Return settings with a certificate that some authority signs, for a key of its own."""
        folder = self.folder / "forged" / f"{name}-{os.urandom(4).hex()}"
        folder.mkdir(parents=True)
        key: ec.EllipticCurvePrivateKey = new_key()
        signed = authority.sign_client(name, key.public_key(), now, lifetime_s)
        (folder / "key.pem").write_bytes(key_pem(key))
        (folder / "certificate.pem").write_text(signed.pem)
        return BrokerSettings(
            url=self.broker_url,
            ca_file=str(self.broker_folder / "ca.pem"),
            cert_file=str(folder / "certificate.pem"),
            key_file=str(folder / "key.pem"),
        )


@contextmanager
def open_enrolled_site(folder: Path) -> Iterator[EnrolledSite]:
    """Start a hub and its broker; end them with the context."""
    site = EnrolledSite(folder)
    try:
        site.start()
        yield site
    finally:
        site.close()
