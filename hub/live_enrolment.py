"""Enrolment of a running hub: put together from its settings, asked from several threads."""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hub.config import HubFile
from hub.errors import HubError
from hub.fleet.authority import DAY_S, Authority, open_authority
from hub.fleet.broker_folder import BrokerFolder
from hub.fleet.csr import check_csr
from hub.fleet.door import Door
from hub.fleet.enrolment import Enrolment, Terms
from hub.fleet.eviction import evict
from hub.fleet.gate import Gate
from hub.fleet.notes import Notes
from hub.fleet.own_certificates import keep_client, keep_server
from hub.rounds.coordinator import Coordinator
from hub.store.identities import IdentityStore
from wire.broker_url import BrokerUrl
from wire.enrolment import EnrolReply, EnrolRequest, RenewRequest
from wire.topics import Topics

log = logging.getLogger(__name__)

T = TypeVar("T")
HTTPS = "https"


class LiveEnrolment:
    """Implements `hub.api.enrolment.EnrolmentDesk` on a coordinator."""

    def __init__(self, coordinator: Coordinator, enrolment: Enrolment) -> None:
        self._coordinator = coordinator
        self._enrolment = enrolment

    def ca_pem(self) -> str:
        """Return the authority's certificate."""
        return self._enrolment.authority.pem

    def enrol(self, request: EnrolRequest, where: str) -> EnrolReply:
        """Answer a device with a token."""
        key = check_csr(request.csr)  # on the caller's thread: a signature to check
        return self._coordinator.call(
            lambda: self._enrolment.enrol(request.token, key, request.name, where, time.time())
        )

    def renew(self, request: RenewRequest, where: str) -> EnrolReply:
        """Answer an enrolled device."""
        key = check_csr(request.csr)
        return self._coordinator.call(
            lambda: self._enrolment.renew(request.device, key, where, time.time())
        )


def keep_own_certificates(config: HubFile, authority: Authority, now: float) -> list[str]:
    """Make or renew what the hub and its broker show; return which of them are new.

    Args:
        config: the hub's settings.
        authority: signs.
        now: Unix time, in seconds.
    """
    folder = config.authority_folder
    new = []
    if keep_client(folder, authority, now):
        new.append("hub")
    if keep_server(folder, HTTPS, authority, config.enrolment.server_names, now):
        new.append(HTTPS)
    broker = config.enrolment.broker_folder
    if broker is not None and (broker / "broker.pem").exists():
        try:
            if keep_server(broker, "broker", authority, broker_names(config), now):
                new.append("broker")
        except PermissionError as error:  # it belongs to the broker's user alone
            log.warning(
                "the broker's certificate can't be looked after here (%s); make it anew with "
                "lorikeet-hub broker-config before it expires",
                error,
            )
    return new


def broker_names(config: HubFile, more: list[str] | None = None) -> list[str]:
    """Return by which names hub and devices connect to the broker."""
    urls = [config.enrolment.broker_url, config.broker.url]
    hosts = [BrokerUrl.parse(url).host for url in urls if url is not None]
    return list(dict.fromkeys([*(more or []), *hosts, "localhost", "127.0.0.1"]))


def open_door(
    config: HubFile, store: IdentityStore, new_https: Callable[[], None] = lambda: None
) -> Door:
    """Return the door of a hub: guarded if its settings have enrolment.

    Args:
        config: the hub's settings.
        store: remembers identities.
        new_https: called when the HTTPS certificate is another one.
    """
    if not config.enrolment.on:
        return Door.unguarded()
    now = time.time()
    authority = open_authority(config.authority_folder, config.fleet, now)
    try:
        keep_own_certificates(config, authority, now)
    except OSError as error:
        raise HubError(f"the hub's certificates can't be written: {error}.") from error
    folder = config.enrolment.broker_folder
    broker = BrokerFolder(folder, Topics(config.fleet)) if folder is not None else None
    gate, notes = Gate(store.identities()), Notes(store)
    terms = Terms(
        fleet=config.fleet,
        broker=config.enrolment.broker_url or config.broker.shown_url,
        lifetime_s=config.enrolment.certificate_days * DAY_S,
    )
    enrolment = Enrolment(store, authority, gate, notes, terms)

    def renew(at: float) -> None:
        new = keep_own_certificates(config, authority, at)
        if HTTPS in new:
            new_https()
        if "broker" in new and broker is not None:
            broker.reload()

    throw_out = partial(evict, config.broker_settings)
    return Door(gate, notes, enrolment, broker, renew=renew, evict=throw_out)
