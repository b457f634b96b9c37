"""Devices and the door, as the HTTP layer sees them; called on the coordinator's thread."""

from typing import Literal

from hub.api.control import DeviceDetail, DeviceSummary, DoorNote, Identity, TokenOrder, Tokens
from hub.documents import absent, device_detail, device_summary, door_note, identity_document
from hub.errors import ConflictError, NotFoundError
from hub.fleet.enrolment import Enrolment
from hub.rounds.coordinator import Coordinator
from hub.store.identities import IdentityStore

#: So many notes of one device are shown with it.
_NOTES_OF_DEVICE = 20


class FleetControl:
    """The part of `hub.api.control.HubControl` that concerns devices.

    Args:
        coordinator: has the sessions.
        store: has the identities.
        enrolment_url: where devices enrol.
    """

    def __init__(self, coordinator: Coordinator, store: IdentityStore, enrolment_url: str) -> None:
        self._coordinator = coordinator
        self._store = store
        self._url = enrolment_url

    def list_devices(self) -> list[DeviceSummary]:
        """Return every device that was ever seen, or asked to enrol, by id."""
        identities = {one.device: one for one in self._store.identities()}
        devices = {one.id: one for one in self._coordinator.known_devices()}
        for name, identity in identities.items():
            devices.setdefault(name, absent(identity))
        now = self._coordinator.desk.now()
        places = {name: identity_document(one, now) for name, one in identities.items()}
        return [device_summary(devices[name], places.get(name)) for name in sorted(devices)]

    def show_device(self, device: str) -> DeviceDetail:
        """Return all about a device."""
        found = self._coordinator.sessions.devices.get(device)
        stored = self._store.identity(device)
        if found is None and stored is not None:
            found = absent(stored)
        if found is None:
            raise NotFoundError(f"no device {device!r} was ever seen here.")
        notes = [door_note(one) for one in self._store.door(device, _NOTES_OF_DEVICE)]
        return device_detail(found, self._identity(device), notes)

    def make_tokens(self, order: TokenOrder) -> Tokens:
        """Return new single-use tokens."""
        desk, now = self._desk(), self._coordinator.desk.now()
        return Tokens(
            tokens=desk.make_tokens(
                order.count, order.expires_s, now, preauthorised=order.preauthorised
            ),
            expires_ts=now + order.expires_s,
            preauthorised=order.preauthorised,
            url=self._url,
            ca_sha256=desk.authority.sha256,
        )

    def decide(
        self, device: str, what: Literal["approve", "reject", "revoke"], reason: str
    ) -> DeviceDetail:
        """Let a device in, send it away, or take its certificates back."""
        desk, now = self._desk(), self._coordinator.desk.now()
        match what:
            case "approve":
                desk.approve(device, now)
            case "reject":
                desk.reject(device, reason, now)
            case "revoke":
                desk.revoke(device, reason, now)
                self._coordinator.door.publish_revocations(now)
                known = self._coordinator.sessions.devices.get(device)
                session = known.last_session if known is not None else None
                self._coordinator.doorkeeper.end_session(device, now)
                self._coordinator.door.show_out(device, session, now)
        return self.show_device(device)

    def door(self) -> list[DoorNote]:
        """Return what happened at the door last, the oldest first."""
        return [door_note(one) for one in self._store.door()]

    def _desk(self) -> Enrolment:
        enrolment = self._coordinator.door.enrolment
        if enrolment is None:
            raise ConflictError(
                "this hub enrols no devices; set enrolment.listen in its file and start it again."
            )
        return enrolment

    def _identity(self, device: str) -> Identity | None:
        stored = self._store.identity(device)
        return identity_document(stored, self._coordinator.desk.now()) if stored else None
