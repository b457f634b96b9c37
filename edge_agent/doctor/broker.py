"""Does the broker take this device, is a hub behind it, and is the clock right?"""

import queue
import secrets
import ssl
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException

from edge_agent.doctor.clock import compared
from edge_agent.doctor.contract import Finding, Subject, fail, ok, warn
from wire.broker_settings import BrokerSettings
from wire.errors import WireError
from wire.link import Connected, Link, Received
from wire.messages import HubState, parse
from wire.topics import Topics

#: A slow phone's link needs some; a broker that is away is away by then.
PATIENCE_S = 10.0
_HUB_S = 3.0


def check_broker(subject: Subject, patience_s: float = PATIENCE_S) -> list[Finding]:
    """Connect as this device, with a client id of our own, and look for the hub."""
    settings = subject.settings
    if settings is None:
        todo = "name it with --broker, or start the agent once."
        return [warn("broker", "no broker is known", todo)]
    broker = settings.broker
    connect = BrokerSettings(url=broker) if isinstance(broker, str) else broker
    topics = Topics(settings.fleet)
    inbox: queue.Queue[object] = queue.Queue()
    try:
        link = Link(connect, f"{settings.device}-{secrets.token_hex(6)}", inbox.put)
        link.subscribe(topics.hub_state())
    except WireError as error:
        return [fail("broker", str(error), "mend this setting.")]
    began = time.monotonic()
    link.start()
    try:
        if not _wait(inbox, Connected, patience_s):
            why = link.trouble or "no answer"
            todo = "is it running, and does this network let you reach it?"
            return [fail("broker", f"{link.broker.shown} can't be reached: {why}", todo)]
        took_ms = (time.monotonic() - began) * 1000
        found = ok("broker", f"{link.broker.shown}, MQTT {link.protocol}, {took_ms:.0f} ms")
        return [found, *_hub(inbox, topics, connect.ca_file)]
    finally:
        link.stop()


def _hub(inbox: "queue.Queue[object]", topics: Topics, ca_file: str | None) -> list[Finding]:
    received = _wait(inbox, Received, _HUB_S)
    state = None
    if isinstance(received, Received):
        route = topics.parse(received.topic)
        try:
            state = parse(route, received.payload) if route is not None else None
        except WireError as error:
            return [fail("hub", f"its state can't be read: {error}", "update agent and hub.")]
    if not isinstance(state, HubState):
        todo = "start the hub, or name its fleet with --fleet."
        return [fail("hub", f"no hub has spoken in fleet {topics.fleet!r}", todo)]
    if not state.online:
        return [warn("hub", "it is away", "start it: lorikeet-hub serve.")]
    if state.http is None:
        return [ok("hub", "there; it serves no models")]
    return _http(state.http, ca_file)


def _http(url: str, ca_file: str | None) -> list[Finding]:
    """Look whether models could be fetched, and compare clocks on the way."""
    if not url.startswith(("http://", "https://")):
        return [fail("hub", f"it says its address is {url!r}", "mend http.public_url in hub.yaml.")]
    try:
        context = ssl.create_default_context() if url.startswith("https://") else None
        if context is not None and ca_file is not None:  # an enrolled device's hub signs both
            context.load_verify_locations(cafile=ca_file)
        asked = urllib.request.urlopen(  # noqa: S310
            f"{url}/healthz", timeout=_HUB_S, context=context
        )
        with asked as answer:
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        date = error.headers.get("Date")
        error.close()
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        todo = "set http.public_url in hub.yaml to an address that devices reach."
        return [fail("hub", f"{url} can't be reached ({why}); models come from there", todo)]
    found = [ok("hub", f"there, models at {url}")]
    try:
        there = parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        there = None
    return found if there is None else [*found, compared(time.time(), there)]


def _wait(inbox: "queue.Queue[object]", kind: type, patience_s: float) -> object | None:
    """Return the first event of a kind, None if it doesn't come in time."""
    deadline = time.monotonic() + patience_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            event = inbox.get(timeout=left)
        except queue.Empty:
            return None
        if isinstance(event, kind):
            return event
    return None
