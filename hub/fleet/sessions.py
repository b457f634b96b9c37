"""One live session for each device id, pure: the clock is an argument.

Two machines with one id would take each other's tasks. The one that came first stays; before
the later one is refused, the first is asked whether it is still there, so that a machine that
lost its power and came back isn't locked out by its own shadow.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from wire.messages import DeviceInfo, DeviceState, Telemetry
from wire.messages.device import State

#: How long the first session has to answer before its place is given away.
PROBE_S = 5.0
#: A live agent sends telemetry every minute; after this silence its session is given up. The
#: broker's own notice (the will) comes much sooner, unless the broker itself was lost.
SILENCE_S = 200.0
#: Of a device's tasks, the newest.
KEPT_PEAKS = 3


class Device(msgspec.Struct, kw_only=True):
    """What the hub knows of a device now."""

    id: str
    first_seen: float
    last_seen: float
    session: str | None = None  # the accepted one, None when it is gone
    last_session: str | None = None  # whose ``info`` it is
    state: State = "lost"
    state_reason: str | None = None  # in the device's own words
    info: DeviceInfo | None = None
    telemetry: Telemetry | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    peak_bytes: int = 0  # as the device reported with its last result
    predicted_peak_bytes: int = 0

    def hear(self, telemetry: Telemetry) -> None:
        """Take a snapshot; a peak is told once, so that the last ones are kept with it."""
        before = self.telemetry.peaks if self.telemetry is not None else []
        kept = [*before, *telemetry.peaks][-KEPT_PEAKS:]
        self.telemetry = msgspec.structs.replace(telemetry, peaks=kept)


#: A device that rests is connected, but a task would rest with it.
RESTS: tuple[State, ...] = ("alert", "sleeping")


class Probe(msgspec.Struct, kw_only=True):
    """A later session that waits while the first one is asked."""

    challenger: str
    hello: str  # the challenger's request
    until: float


Decision = Literal["welcome", "probe", "wait", "refuse", "full"]

#: So many devices are known unless the hub's file says otherwise.
MAX_DEVICES = 10_000


class Sessions:
    """The devices of a fleet.

    Args:
        devices: as read from the store after a restart; sessions among them count as live.
        most: devices that are known at a time: until there is enrolment, anybody can make up ids.
        workers: returns the devices that did work; they aren't forgotten.
    """

    def __init__(
        self,
        devices: list[Device] | None = None,
        most: int = MAX_DEVICES,
        workers: Callable[[], set[str]] = set,
    ) -> None:
        self.devices = {device.id: device for device in devices or []}
        self.most = most
        self._workers = workers
        self._forgotten: list[str] = []
        self._probes: dict[str, Probe] = {}

    def hello(self, device_id: str, session: str, request: str, now: float) -> Decision:
        """Decide on a greeting.

        Returns:
            welcome: it is the device's session from now on.
            probe: another session is known; ask it for a `Report`, and see `expired`.
            wait: the probe is still under way.
            refuse: the other session answered, and stays.
            full: as many devices are known as may be, and each of them did work.
        """
        device = self.devices.get(device_id)
        if device is None and not self._make_room():
            return "full"
        if device is None:
            device = Device(id=device_id, first_seen=now, last_seen=now)
            self.devices[device_id] = device
        probe = self._probes.get(device_id)
        if device.session in (None, session):
            _seat(device, session, now)
            if probe is not None and probe.challenger != session:
                return "welcome"  # `refused` tells the challenger
            self._probes.pop(device_id, None)
            return "welcome"
        if probe is None:
            self._probes[device_id] = Probe(challenger=session, hello=request, until=now + PROBE_S)
            return "probe"
        if probe.challenger == session:
            probe.hello = request
            return "wait"
        return "refuse"

    def take_forgotten(self) -> list[str]:
        """Return (and forget) which devices had to make room since this was last asked."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def _make_room(self) -> bool:
        """Forget who never did work, the one first that was not heard for longest.

        One that lives all the same is asked to greet when it is next heard.
        """
        over = len(self.devices) + 1 - self.most
        if over <= 0:
            return True
        workers = self._workers()
        strangers = sorted(
            (device for device in self.devices.values() if device.id not in workers),
            key=lambda device: (device.last_seen, device.id),
        )
        # A hundredth at once: whoever makes up ids must not have all devices sorted for each.
        for device in strangers[: max(over, self.most // 100)]:
            del self.devices[device.id]
            self._probes.pop(device.id, None)
            self._forgotten.append(device.id)
        return len(self.devices) < self.most

    def refused(self, device_id: str) -> Probe | None:
        """The first session has answered: return (and forget) the challenger to refuse."""
        return self._probes.pop(device_id, None)

    def expired(self, now: float) -> list[tuple[str, Probe]]:
        """Return the challengers whose predecessor didn't answer; they are the sessions now."""
        over = [(device, p) for device, p in self._probes.items() if now >= p.until]
        for device_id, probe in over:
            del self._probes[device_id]
            _seat(self.devices[device_id], probe.challenger, now)
        return over

    def on_state(self, device_id: str, message: DeviceState, now: float) -> Decision | None:
        """Take a state. A will of any other session than the accepted one changes nothing.

        Returns:
            ``welcome`` if an accepted session came back, ``refuse`` if the accepted one is gone,
            None otherwise.
        """
        device = self.devices.get(device_id)
        if device is None or device.session != message.session:
            return None
        was = device.state
        device.state, device.last_seen = message.state, now
        device.state_reason = message.reason
        if message.state in ("lost", "disconnected"):
            device.session = None
            return "refuse"
        return "welcome" if was in ("lost", "disconnected") else None

    def unseat(self, device_id: str) -> None:
        """End a device's session, and forget who waits for its place."""
        device = self.devices.get(device_id)
        if device is not None:
            device.session, device.state = None, "lost"
        self._probes.pop(device_id, None)

    def silent(self, now: float) -> list[str]:
        """Give up the sessions that weren't heard for long; return their devices."""
        over = [
            device.id
            for device in self.live()
            if now - device.last_seen > SILENCE_S and device.id not in self._probes
        ]
        for device_id in over:
            self.devices[device_id].session = None
            self.devices[device_id].state = "lost"
        return over

    def owns(self, device_id: str, session: str, now: float) -> bool:
        """Return whether a message's session is the accepted one, and note that it lives."""
        device = self.devices.get(device_id)
        if device is None or device.session != session:
            return False
        device.last_seen = now
        return True

    def live(self) -> list[Device]:
        """Return the devices that are connected, by id."""
        return [d for _, d in sorted(self.devices.items()) if d.session is not None]


def _seat(device: Device, session: str, now: float) -> None:
    """Give a device's place to a session. What an earlier one said of itself may not hold."""
    if session != device.last_session:
        device.info = None
        device.telemetry = None
    device.session = device.last_session = session
    device.state = "ready"
    device.state_reason = None
    device.last_seen = now
