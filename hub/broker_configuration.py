"""A configuration for mosquitto in which a certificate's name decides who may say what; pure text.

Tried with 2.0.11; the keys that differ from 2.1 on are chosen by `Version`. Sources: the manual
pages mosquitto.conf(5) of both, and of 2.1's plugins (https://mosquitto.org/documentation/).
"""

from pathlib import Path
from typing import Literal

import msgspec

from hub.fleet.enrolment import HUB_NAME
from wire.topics import BROKER_LOG, Topics

Version = Literal["2.0", "2.1"]
#: What mosquitto puts in place of a pattern's user: the certificate's common name.
USER = "%u"
#: Offers, replies and chunks of one device that a moment without network must not cost.
_QUEUED_MESSAGES = 10_000
_QUEUED_BYTES = 256 * 1024 * 1024
_INFLIGHT = 20


class BrokerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator chooses.

    Attributes:
        folder: where all files are, as the broker sees it.
        listen: port for MQTT over TLS.
        websocket: port for MQTT over WebSocket over TLS; None: no such listener.
        address: to listen on; empty: all of the machine's.
        user: that mosquitto becomes when it is started as root.
        log_denied: write a log file that tells what was forbidden to whom.
        plugins: of 2.1: the folder that holds its plugins.
    """

    folder: Path
    listen: int = 8883
    websocket: int | None = None
    address: str = ""
    version: Version = "2.0"
    user: str = "mosquitto"
    log_denied: bool = True
    plugins: Path = Path("/usr/lib")
    max_packet_bytes: int = 2_000_000


def mosquitto_conf(options: BrokerOptions) -> str:
    """Return ``mosquitto.conf``."""
    folder = options.folder
    lines = [
        "# Made by lorikeet-hub broker-config; made anew, it is overwritten.",
        "",
        # One access list for all listeners had to be asked for until 2.1.
        *(["per_listener_settings false"] if options.version == "2.0" else []),
        "allow_anonymous false",
        f"user {options.user}",
        f"pid_file {folder}/mosquitto.pid",
        "",
        *_access(options),
        "",
        *_persistence(options),
        "",
        "# What exceeds these is dropped without a word to the sender; ours asks again.",
        f"max_queued_messages {_QUEUED_MESSAGES}",
        f"max_queued_bytes {_QUEUED_BYTES}",
        f"max_inflight_messages {_INFLIGHT}",
        "# Above every message of ours: a chunk has 64 KiB, a JSON document at most 128 KiB.",
        *(["# (It is 2.1's default, too.)"] if options.version == "2.1" else []),
        f"max_packet_size {options.max_packet_bytes}",
        "max_keepalive 3600",
        "persistent_client_expiration 7d",
        "",
        *_log(options),
        *_listener(options, options.listen, websocket=False),
    ]
    if options.websocket is not None:
        lines += _listener(options, options.websocket, websocket=True)
    return "\n".join(lines) + "\n"


def access_list(fleet: str) -> str:
    """Return the access list: a device reaches its own topics and what is for all, no more."""
    topics = Topics(fleet)
    own, every = USER, "+"
    writes = [
        topics.device_state(own),
        topics.device_info(own),
        topics.telemetry(own),
        topics.event(own, every),
        topics.request(own, every),
        topics.upload_chunk(own),
    ]
    reads = [
        topics.hub_state(),
        topics.job_round(),
        topics.slice_chunk(),
        topics.reply(own),
        topics.command(own, every),
        topics.repair_chunk(own),
    ]
    return "\n".join([
        "# Made by lorikeet-hub broker-config; made anew, it is overwritten.",
        f"# {USER} is the common name of the client's certificate. Client ids are free: a device",
        "# adds a number to its own, so that two of one name don't throw one another out.",
        "# mosquitto grants a forbidden SUBSCRIBE and then delivers nothing.",
        "",
        f"user {HUB_NAME}",
        f"topic readwrite {topics.watched}/#",
        f"topic readwrite {topics.data}/#",
        f"topic read {BROKER_LOG}",
        "",
        "# Every device. mosquitto warns of patterns without a name in them; these are for all.",
        *(f"pattern write {one}" for one in writes),
        *(f"pattern read {one}" for one in reads),
        "",
    ])  # fmt: skip


def _access(options: BrokerOptions) -> list[str]:
    acl = options.folder / "acl"
    if options.version == "2.0":
        return [f"acl_file {acl}"]
    return [
        "# Since 2.1 a plugin reads the access list; the old key acl_file is deprecated.",
        f"global_plugin {options.plugins}/mosquitto_acl_file.so",
        f"plugin_opt_acl_file {acl}",
    ]


def _persistence(options: BrokerOptions) -> list[str]:
    place = f"persistence_location {options.folder}/data/"
    if options.version == "2.0":
        return [
            "# 2.0 writes its whole database at times; kill -9 costs what came since. The hub says",
            "# again what it retained, so nothing of a round is lost.",
            "persistence true",
            place,
            "autosave_interval 60",
        ]
    return [
        "# Since 2.1: a database that is written as messages come; kill -9 costs a second.",
        place,
        f"global_plugin {options.plugins}/mosquitto_persist_sqlite.so",
        "plugin_opt_flush_period 1",
    ]


def _log(options: BrokerOptions) -> list[str]:
    kinds = ["error", "warning", "notice"]
    lines = [
        "# The hub shows its operator what the broker refuses: errors by a topic of the broker's."
    ]
    lines += ["log_dest topic"]
    if options.log_denied:
        lines += [
            "# And what was forbidden, which the broker only tells at this level, and no topic.",
            "# The hub reads the file, where it runs beside it, and keeps it small.",
            f"log_dest file {options.folder}/mosquitto.log",
        ]
        kinds += ["debug"]
    else:
        lines += ["log_dest stderr"]
    return [*lines, *(f"log_type {kind}" for kind in kinds), "connection_messages true"]


def _listener(options: BrokerOptions, port: int, *, websocket: bool) -> list[str]:
    folder = options.folder
    return [
        "",
        f"listener {port} {options.address}".rstrip(),
        *(["protocol websockets"] if websocket else []),
        f"cafile {folder}/ca.pem",
        f"certfile {folder}/broker.pem",
        f"keyfile {folder}/broker.key",
        f"crlfile {folder}/crl.pem",
        "require_certificate true",
        "use_identity_as_username true",
        "tls_version tlsv1.2",
    ]
