"""What a device says of itself: state, info, telemetry, events."""

import os
import time
from typing import TYPE_CHECKING

from edge_agent.heartbeat import Sign
from edge_agent.probe.machine import cores, machine
from edge_agent.probe.process import resident_bytes
from wire.codecs.names import CODEC_NAMES
from wire.messages import DeviceEvent, DeviceInfo, DeviceState, TaskPeak, Telemetry, encode
from wire.messages.device import State
from wire.version import LORIKEET_VERSION, WIRE_VERSION

if TYPE_CHECKING:
    from edge_agent.agent import Supervisor

#: Progress is shown after so long in each stage of a task, then after twice as long each time: a
#: short task is seen to move, and a long one doesn't spend an update's worth of bytes on saying so.
PROGRESS_S = 5.0
LONGEST_PROGRESS_S = 30.0
#: And so often where every byte counts; an hour's training else costs over a megabyte.
METERED_S = 60.0


class Teller:
    """Publishes a supervisor's documents."""

    def __init__(self, agent: "Supervisor") -> None:
        self._agent = agent
        self._next_telemetry = 0.0
        self._next_progress = 0.0
        self._pause_s = PROGRESS_S
        self._last_stage: tuple[str, str] | None = None

    def state(self, state: State, reason: str | None = None) -> None:
        """Publish the retained state."""
        agent = self._agent
        message = DeviceState(
            state=state, session=agent.session, ts=round(time.time(), 3), reason=reason
        )
        topic = agent.topics.device_state(agent.settings.device)
        agent.link.publish(topic, encode(message), message.QOS, retain=True)

    def sign(self) -> Sign:
        """Return what the state folder is told."""
        agent = self._agent
        state, reason = agent.resting.state
        return Sign(
            pid=os.getpid(),
            device=agent.settings.device,
            session=agent.session,
            ts=time.time(),
            welcomed=agent.welcomed,
            state=state,
            reason=reason,
            plans=agent.jobs.plans,
        )

    def info(self) -> None:
        """Publish the retained description: memory, codecs, the rung in each job."""
        agent = self._agent
        message = DeviceInfo(
            session=agent.session,
            ts=round(time.time(), 3),
            agent_version=LORIKEET_VERSION,
            wire_version=WIRE_VERSION,
            machine=machine(),
            cores=cores(),
            memory_limit_bytes=agent.limit.limit_bytes,
            memory_reason=agent.limit.reason,
            memory_enforcement=agent.worker.enforcement,
            codecs=list(CODEC_NAMES),
            up_limit_bits_per_s=agent.settings.limits.up_bits_per_s,
            down_limit_bits_per_s=agent.settings.limits.down_bits_per_s,
            data_cap_bytes=agent.settings.limits.data_cap_bytes,
            data=agent.data,
            runtimes=agent.runtimes,
            plans=agent.jobs.plans,
        )
        topic = agent.topics.device_info(agent.settings.device)
        agent.link.publish(topic, encode(message), message.QOS, retain=True)

    def progress(self) -> None:
        """Publish a snapshot if the last one is old enough."""
        if time.monotonic() >= self._next_progress:
            self.telemetry()

    def telemetry(self) -> None:
        """Publish a snapshot now."""
        agent = self._agent
        now = time.monotonic()
        progress = agent.tasks.progress()
        metered = agent.settings.limits.data_cap_bytes is not None
        stage = (progress.task, progress.stage) if progress is not None else None
        self._pause_s = min(2 * self._pause_s, LONGEST_PROGRESS_S)
        if stage != self._last_stage:
            self._last_stage, self._pause_s = stage, PROGRESS_S
        self._next_progress = now + (METERED_S if metered else self._pause_s)
        self._next_telemetry = now + agent.settings.telemetry_s
        if not agent.welcomed:
            return
        fares, trouble = agent.resting.conditions(), agent.resting.trouble
        message = Telemetry(
            session=agent.session,
            ts=round(time.time(), 3),
            supervisor_rss_bytes=resident_bytes(os.getpid()) or 0,
            worker_rss_bytes=agent.worker.resident_bytes,
            bytes_up=agent.link.bytes_up,
            bytes_down=agent.link.bytes_down,
            task=progress,
            temperature_c=fares.temperature_c,
            throttled=fares.throttled,
            battery_percent=fares.battery_percent,
            on_mains=fares.on_mains,
            memory_some_avg10=fares.memory_some_avg10,
            memory_full_avg10=fares.memory_full_avg10,
            paused=trouble.reason if trouble is not None else agent.metering.reason,
            certificate_days_left=agent.renewing.days_left,
            peaks=agent.peaks.tell() if progress is None else [],
        )
        topic = agent.topics.telemetry(agent.settings.device)
        agent.link.publish(topic, encode(message), message.QOS)

    def event(self, kind: str, detail: str, peak: TaskPeak | None = None) -> None:
        """Publish something worth keeping.

        Args:
            kind: last level of the topic.
            detail: what happened.
            peak: of what ran out of memory.
        """
        agent = self._agent
        task = agent.tasks.current
        offer = task.offer if task else None
        message = DeviceEvent(
            type=kind,
            session=agent.session,
            ts=round(time.time(), 3),
            detail=detail,
            job=offer.job if offer else None,
            round=offer.round if offer else None,
            task=offer.task if offer else None,
            peak=peak,
        )
        topic = agent.topics.event(agent.settings.device, kind)
        agent.link.publish(topic, encode(message), message.QOS)

    def tick(self, now: float) -> None:
        """Publish the snapshot that is due."""
        if now >= self._next_telemetry:
            self.telemetry()
