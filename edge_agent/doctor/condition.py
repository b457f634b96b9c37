"""Is the device in a state to train? By the agent's own rules (`edge_agent.pausing`)."""

from edge_agent.doctor.contract import Finding, Subject, ok, warn
from edge_agent.pausing import Comfort, find
from edge_agent.probe.conditions import Conditions, conditions

NAME = "temperature"
_ADVICE = {
    "throttled": "cool the device, or give it a better power supply; until then training rests.",
    "battery": "charge the device; until then training rests.",
    "pressure": "end other programs; until then training rests.",
}


def check_conditions(subject: Subject) -> list[Finding]:
    """Read temperature, battery and memory pressure, as the agent does while it trains."""
    comfort = subject.settings.comfort if subject.settings is not None else Comfort()
    now = conditions(subject.root)
    trouble = find(now, None, comfort, resting=False)
    if trouble is not None:
        return [warn(NAME, trouble.reason, _ADVICE[trouble.kind])]
    return [ok(NAME, _told(now))]


def _told(now: Conditions) -> str:
    words = "no sensor can be read" if now.temperature_c is None else f"{now.temperature_c:.0f} °C"
    if now.battery_percent is not None:
        words += f", battery {now.battery_percent:.0f} %{' on mains' if now.on_mains else ''}"
    return words
