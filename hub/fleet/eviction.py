"""Ends a client's connection at the broker: MQTT has no word for it, but a client id is only one's.

A broker drops the older of two connections with one id (MQTT 3.1.1, section 3.1.4). Whoever was
revoked can't come back, since its certificate is looked at again.
"""

import logging
import threading
from collections.abc import Iterable

from wire.broker_settings import BrokerSettings
from wire.errors import WireError
from wire.link import Connected, Link, LinkEvent

log = logging.getLogger(__name__)

_PATIENCE_S = 10.0


def evict(broker: BrokerSettings, clients: Iterable[str]) -> None:
    """Throw clients out, one after the other, on a thread of its own.

    Args:
        broker: with the hub's own certificate.
        clients: their ids; one that isn't connected is no error.
    """
    wanted = list(clients)
    threading.Thread(target=_evict, args=(broker, wanted), name="evict", daemon=True).start()


def _evict(broker: BrokerSettings, clients: list[str]) -> None:
    for client in clients:
        there = threading.Event()

        def deliver(event: LinkEvent, there: threading.Event = there) -> None:
            if isinstance(event, Connected):
                there.set()

        try:
            link = Link(broker, client, deliver)
        except WireError as error:
            log.warning("client %s can't be thrown out: %s", client, error)
            continue
        link.start()
        there.wait(_PATIENCE_S)
        link.stop()
