"""The hub's numbers in Prometheus' text format.

Names follow https://prometheus.io/docs/practices/naming/: base units, ``_total`` on counts. No
label holds a device's id: there may be thousands, and `lorikeet-hub device list` has them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from hub.fleet.sessions import Device
from hub.metrics.figures import Figures, JobFigures
from hub.rounds.state import JobState
from wire.version import LORIKEET_VERSION, WIRE_VERSION

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Snapshot(msgspec.Struct, frozen=True):
    """What is told at one instant.

    Attributes:
        jobs: name, state and number of rounds of each.
        devices: all that are known.
        broker: whether it is connected.
    """

    jobs: list[tuple[str, JobState, int]]
    devices: list[Device]
    broker: bool


class Exposition:
    """Turns snapshots into text; remembers what was counted."""

    def __init__(self) -> None:
        self._figures = Figures()

    def text(self, snapshot: Snapshot) -> bytes:
        """Return all numbers of a snapshot, and of this process.

        Args:
            snapshot: taken just now.
        """
        registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=registry)
        GCCollector(registry=registry)
        registry.register(_Once(self._figures.of_jobs(snapshot.jobs), snapshot))
        return generate_latest(registry)


class _Once(Collector):
    """Hands one snapshot's numbers over."""

    def __init__(self, jobs: list[JobFigures], snapshot: Snapshot) -> None:
        self._jobs, self._snapshot = jobs, snapshot

    def collect(self) -> Iterator[Metric]:
        yield _gauge(
            "lorikeet_hub_info",
            "Versions of this hub; always 1.",
            ("version", "wire_version"),
            [((LORIKEET_VERSION, str(WIRE_VERSION)), 1.0)],
        )
        yield _gauge(
            "lorikeet_broker_connected",
            "Whether the hub is connected to its broker.",
            (),
            [((), float(self._snapshot.broker))],
        )
        yield from _devices(self._snapshot.devices)
        yield from _jobs(self._jobs)


def _devices(devices: list[Device]) -> Iterator[Metric]:
    states = Counter[str](one.state for one in devices)
    roles: Counter[tuple[str, str]] = Counter()
    for one in devices:
        if one.session is not None and one.info is not None:
            roles.update((job, plan.role) for job, plan in one.info.plans.items())
    yield _gauge(
        "lorikeet_devices",
        "Devices that are known, by state.",
        ("state",),
        [((state,), float(count)) for state, count in sorted(states.items())],
    )
    yield _gauge(
        "lorikeet_devices_by_role",
        "Connected devices, by the role they take in a job.",
        ("job", "role"),
        [(key, float(count)) for key, count in sorted(roles.items())],
    )


def _jobs(jobs: list[JobFigures]) -> Iterator[Metric]:
    one = ("job",)
    phases = [((job.job, job.phase), 1.0) for job in jobs]
    yield _gauge("lorikeet_job_phase", "The phase a job is in; always 1.", ("job", "phase"), phases)
    yield _gauge("lorikeet_job_round", "The round a job is in.", one, _each(jobs, "round"))
    yield _gauge("lorikeet_job_rounds", "Rounds a job is to have.", one, _each(jobs, "rounds"))
    yield _gauge(
        "lorikeet_job_base_loss",
        "Held-out loss of the bare base, nats per token.",
        one,
        _each(jobs, "base_loss"),
    )
    yield _gauge(
        "lorikeet_job_heldout_loss",
        "Held-out loss of the newest released adapter that was measured, nats per token.",
        one,
        _each(jobs, "heldout_loss"),
    )
    members = [((job.job, state), float(n)) for job in jobs for state, n in job.members.items()]
    yield _gauge(  # one that was missed may come late
        "lorikeet_tasks", "Tasks of a job's rounds, by how they stand.", ("job", "state"), members
    )
    ended = [((job.job, how), float(n)) for job in jobs for how, n in job.rounds_ended.items()]
    yield _counter(
        "lorikeet_rounds_ended", "Rounds that have ended, by how.", ("job", "how"), ended
    )
    yield _counter(
        "lorikeet_update_bytes",
        "Bytes of all accepted updates, as they travelled.",
        one,
        _each(jobs, "update_bytes"),
    )
    yield _counter(
        "lorikeet_training_tokens",
        "Tokens that accepted updates were trained on.",
        one,
        _each(jobs, "training_tokens"),
    )
    yield _counter(
        "lorikeet_round_seconds",
        "Seconds from the opening to the close of rounds that closed, in all.",
        one,
        _each(jobs, "round_seconds"),
    )
    yield _counter(
        "lorikeet_rounds_closed", "Rounds that closed.", one, _each(jobs, "closed_rounds")
    )


Sample = tuple[tuple[str, ...], float]


def _each(jobs: list[JobFigures], field: str) -> list[Sample]:
    """Return a field of each job that has it."""
    values = ((job.job, getattr(job, field)) for job in jobs)
    return [((name,), float(value)) for name, value in values if value is not None]


def _gauge(
    name: str, words: str, labels: tuple[str, ...], samples: Iterable[Sample]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(
    name: str, words: str, labels: tuple[str, ...], samples: Iterable[Sample]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, words, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
