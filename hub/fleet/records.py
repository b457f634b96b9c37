"""What the database remembers of a device."""

import msgspec

from hub.fleet.sessions import Device
from hub.store.database import DeviceRow
from wire.messages import DeviceInfo
from wire.messages.device import State


def to_remember(device: Device) -> DeviceRow:
    """Return the row of a device."""
    return DeviceRow(
        device=device.id,
        session=device.session,
        first_seen=device.first_seen,
        last_seen=device.last_seen,
        state=device.state,
        info=msgspec.to_builtins(device.info),
    )


def remembered(row: DeviceRow) -> Device:
    """Return the device of a row; what an older version wrote and we can't read is left out."""
    try:
        info = msgspec.convert(row.info, DeviceInfo | None)
        state = msgspec.convert(row.state, State)
    except msgspec.ValidationError:
        info, state = None, "lost"
    return Device(
        id=row.device,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        session=row.session,
        last_session=row.session,
        state=state,
        info=info,
    )
