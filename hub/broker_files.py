"""Writes what `hub.broker_configuration` says into a folder, with certificates for the broker."""

import shutil
from pathlib import Path

from hub.broker_configuration import BrokerOptions, access_list, mosquitto_conf
from hub.config import HubFile
from hub.fleet.authority import open_authority
from hub.fleet.broker_folder import write_public
from hub.fleet.enrolment import Enrolment, Terms
from hub.fleet.gate import Gate
from hub.fleet.notes import Notes
from hub.fleet.own_certificates import keep_client, keep_server
from hub.live_enrolment import broker_names
from hub.store.database import Store
from wire.private_file import write_private


def write_broker_files(
    out: Path, config: HubFile, options: BrokerOptions, names: list[str], now: float
) -> list[str]:
    """Write a broker's folder; return the names of what is there now.

    Args:
        out: the folder; its key may be read by its owner, and by ``options.user`` if we are root.
        config: the hub's settings.
        options: of the broker.
        names: by which devices reach it, besides those in the settings' URLs.
        now: Unix time, in seconds.
    """
    authority = open_authority(config.authority_folder, config.fleet, now)
    keep_client(config.authority_folder, authority, now)
    out.mkdir(parents=True, exist_ok=True)
    (out / "data").mkdir(exist_ok=True, mode=0o700)
    keep_server(out, "broker", authority, broker_names(config, names), now)
    write_public(out / "ca.pem", authority.pem.encode())
    write_public(out / "crl.pem", _revocations(config, now))
    # mosquitto warns of an access list that others can read.
    write_private(out / "acl", access_list(config.fleet).encode())
    write_public(out / "mosquitto.conf", mosquitto_conf(options).encode())
    _hand_over(out, options.user)
    return ["mosquitto.conf", "acl", "ca.pem", "broker.pem", "broker.key", "crl.pem"]


def _revocations(config: HubFile, now: float) -> bytes:
    authority = open_authority(config.authority_folder, config.fleet, now)
    store = Store(config.store.database)
    try:
        terms = Terms(fleet=config.fleet, broker="", lifetime_s=0.0)
        notes = Notes(store.identities)
        desk = Enrolment(store.identities, authority, Gate(None), notes, terms)
        return desk.revocation_list(now)
    finally:
        store.close()


def _hand_over(out: Path, user: str) -> None:
    """Let the broker read its key once it has dropped root's rights, and write its data.

    mosquitto reads its files after that, and again at each SIGHUP.
    """
    for path in (out, out / "data", out / "broker.key", out / "broker.pem", out / "acl"):
        try:
            shutil.chown(path, user)
        except (PermissionError, LookupError):
            return  # we are not root, or there is no such user here: the broker runs as another
