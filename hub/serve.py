"""The hub's process: coordinator in the main thread, HTTP in another."""

import logging
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from hub.api.app import create_app
from hub.api.enrolment import create_enrolment_app
from hub.api.server import HttpServer
from hub.broker import start_broker
from hub.config import HubFile
from hub.control import LiveHub
from hub.derived.bases import DerivedBases
from hub.fleet.enrolment import Enrolment
from hub.hash_cache import HashCache
from hub.live_enrolment import HTTPS, LiveEnrolment, open_door
from hub.rounds.coordinator import Coordinator
from hub.store.database import Store
from wire.blobs import BlobStore
from wire.quiet_log import Printable

log = logging.getLogger(__name__)

#: At the address that strangers reach.
_MOST_CONNECTIONS = 500


def run(config: HubFile) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        HubError: the address is taken, or the embedded broker didn't start.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Printable())
    logging.basicConfig(
        handlers=[handler],
        level=logging.INFO,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    state = config.store.state_folder
    _keep_temporary_files_in(state / "tmp")
    broker = None
    store = Store(config.store.database)
    servers: list[HttpServer] = []

    def new_certificate() -> None:
        for one in servers:
            one.reload_certificate()

    door = open_door(config, store.identities, new_certificate)
    settings = config.broker_settings
    if config.broker.embedded:
        broker = start_broker(state / "broker", port=config.broker.address.port)
        log.info("embedded broker (%s) at %s", broker.kind, broker.url)
        if broker.kind == "amqtt":
            settings = msgspec.structs.replace(settings, profile="amqtt", protocol="auto")
    http = config.http.public_url or config.http.address.url
    if config.enrolment.on and config.http.public_url is None:
        http = config.enrolment.url  # devices trust its certificate, and can reach it
    coordinator = Coordinator(
        broker=settings,
        fleet=config.fleet,
        http=http,
        store=store,
        blobs=BlobStore(config.store.blobs),
        folder=state,
        max_devices=config.max_devices,
        door=door,
    )
    url = config.enrolment.url if config.enrolment.on else ""
    derived = DerivedBases(state / "derived", config.models.derived)
    hub = LiveHub(coordinator, store, HashCache(state / "hashes.json"), derived, url)
    hub.restore()
    server = HttpServer(
        create_app(hub, config.http.token()), config.http.address.host, config.http.address.port
    )
    servers.append(server)
    server.start()
    if door.enrolment is not None:
        servers.append(_enrolment_server(config, coordinator, door.enrolment, hub))
        servers[-1].start()
        log.info("devices enrol at %s", url)
        door.publish_revocations(time.time())
    elif config.http.public_url is None:  # port 0 is known only now
        http = msgspec.structs.replace(config.http.address, port=server.port).url
        coordinator.desk.http = http
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: coordinator.stop())
    log.info("fleet %s: http at %s, broker at %s", config.fleet, http, config.broker.shown_url)
    try:
        coordinator.run()
    finally:
        for one in servers:
            one.stop()
        derived.close()
        store.close()
        if broker is not None:
            broker.stop()


def _enrolment_server(
    config: HubFile, coordinator: Coordinator, enrolment: Enrolment, hub: LiveHub
) -> HttpServer:
    folder, address = config.authority_folder, config.enrolment.address
    app = create_enrolment_app(LiveEnrolment(coordinator, enrolment), hub)
    return HttpServer(
        app,
        address.host,
        address.port,
        tls=(folder / f"{HTTPS}.pem", folder / f"{HTTPS}.key"),
        most=_MOST_CONNECTIONS,
        key="enrolment.listen",
    )


def _keep_temporary_files_in(folder: Path) -> None:
    """Let sums that are too large for memory rest beside the state: elsewhere may be memory, too.

    What an earlier process left there is removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder)
