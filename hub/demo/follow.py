"""Watches the demo's job through the hub's HTTP interface, as anybody could."""

from hub.api.control import ENDED, DeviceDetail, JobDetail, Round
from hub.cli.client import HubClient
from hub.demo.view import DeviceRow, Snapshot
from wire.derived import DERIVED
from wire.messages import RungPlan


class Follower:
    """What the demo shows and, in the end, sums up.

    Args:
        client: of the hub.
        job: its name.
        devices: their ids, in the order in which they are shown.
    """

    def __init__(self, client: HubClient, job: str, devices: list[str]) -> None:
        self._client = client
        self._job = job
        self._devices = devices
        self.detail: JobDetail | None = None
        self.devices: dict[str, DeviceDetail] = {}
        self.plans: dict[str, RungPlan] = {}  # an agent forgets its plan when the job ends

    def look(self, elapsed_s: float, note: str = "") -> Snapshot:
        """Ask the hub how things stand."""
        detail = self._client.job(self._job)
        self.detail = detail
        job = self._job
        for known in self._client.devices():
            device = self._client.device(known.device)
            self.devices[known.device] = device
            if device.info is not None and job in device.info.plans:
                self.plans[known.device] = device.info.plans[job]
        summary = detail.summary
        following = [*detail.rounds[1:], detail.evaluation]
        losses = [
            one.heldout_loss
            for one, after in zip(detail.rounds, following, strict=True)
            if one.heldout_loss is not None
            and one.phase != "rolled_back"
            and (self.over or _measured(after))
        ]
        first = detail.rounds[0] if detail.rounds else None
        released = [one for one in detail.rounds if one.phase != "rolled_back"]
        measured = next((one for one in reversed(released) if one.worst_tenth is not None), None)
        return Snapshot(
            phase=summary.phase,
            round=summary.round,
            rounds=summary.rounds,
            elapsed_s=elapsed_s,
            devices=[self._row(device, detail) for device in self._devices],
            base_loss=summary.base_loss if _measured(first) else None,
            heldout_loss=losses,
            worst_tenth=measured.worst_tenth if measured else None,
            spread=measured.spread if measured else None,
            note=note or (summary.reason or ""),
        )

    @property
    def over(self) -> bool:
        """Whether the job has ended."""
        return self.detail is not None and self.detail.summary.phase in ENDED

    def _row(self, device: str, detail: JobDetail) -> DeviceRow:
        known = self.devices.get(device)
        if known is None:
            return DeviceRow(id=device)
        plan = self.plans.get(device)
        task = known.telemetry.task if known.telemetry else None
        accepted = _accepted(detail.rounds[-1] if detail.rounds else None, device)
        telemetry = known.telemetry
        return DeviceRow(
            id=device,
            role=plan.role if plan else "",
            rung=rung_words(plan) if plan else "",
            rank=plan.rank if plan else 0,
            state=known.summary.state,
            stage="accepted" if accepted is not None else task.stage if task else "",
            step=task.step if task and task.stage == "train" else 0,
            steps=task.steps if task and task.stage == "train" else 0,
            loss=accepted if accepted is not None else task.loss if task else None,
            bytes_up=telemetry.bytes_up if telemetry else 0,
            bytes_down=telemetry.bytes_down if telemetry else 0,
            reason=plan.reason if plan else "",
        )


def rung_words(plan: RungPlan) -> str:
    """Return a plan's rung, with the engine that it is done on where that isn't torch."""
    kind = DERIVED.get(plan.derived)
    return f"{plan.rung} ({kind.runtime})" if kind else plan.rung


def _measured(round_: Round | None) -> bool:
    """Return whether every device has measured the adapter with which a round began."""
    members = round_.members if round_ else []
    return bool(members) and all(one.heldout_loss is not None for one in members)


def _accepted(round_: Round | None, device: str) -> float | None:
    """Return a device's last training loss, if its update of the round was accepted."""
    for member in round_.members if round_ else []:
        if member.device == device and member.state == "delivered":
            return member.loss_last
    return None
