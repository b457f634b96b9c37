"""In which codec a device sends its update."""

from collections.abc import Collection, Mapping

#: At most this many bytes of raw update: one chunk carries it, whatever the codec.
TINY_BYTES = 65_536
#: A link is slow when bf16 would spend more than this share of the deadline on the upload.
SLOW_SHARE = 0.05
_BF16_BITS = 16.0


def update_bytes(parameters: int, bits: float) -> int:
    """Return the size of an update, headers left out."""
    return int(-(-parameters * bits // 8))


def choose_codec(
    wanted: str,
    *,
    hub: Mapping[str, float],
    device: Collection[str],
    parameters: int,
    deadline_s: float,
    up_bytes_per_s: float | None,
) -> tuple[str | None, str]:
    """Return the codec and why; None if there is none that both sides know.

    ``auto`` takes raw for an update of at most 64 KiB, int8 where bf16 would spend over 5 % of the
    deadline on the upload, and bf16 otherwise: half the bytes for an error far below a step's
    noise. Where the device lacks the first choice, the nearest in size that it has.

    Args:
        wanted: the job's codec, or ``auto``.
        hub: the hub's codecs, with their bits per parameter.
        device: the device's codecs.
        parameters: of the update.
        up_bytes_per_s: the device's measured upload rate; None: unknown.
    """
    common = {name: bits for name, bits in hub.items() if name in device}
    if wanted != "auto":
        if wanted in common:
            return wanted, f"codec {wanted}: the job says so"
        return None, f"the job asks for codec {wanted}; the device has {_names(device)}"
    if not common:
        return None, f"no common codec: the device has {_names(device)}, the hub {_names(hub)}"
    first, why = _first_choice(parameters, deadline_s, up_bytes_per_s)
    if first in common:
        return first, f"codec {first}: {why}"
    target = hub.get(first, _BF16_BITS)
    nearest = min(common, key=lambda name: (abs(common[name] - target), name))
    return nearest, f"codec {nearest}: {why}, but the device has no {first}"


def _first_choice(
    parameters: int, deadline_s: float, up_bytes_per_s: float | None
) -> tuple[str, str]:
    raw_bytes = update_bytes(parameters, 32.0)
    if raw_bytes <= TINY_BYTES:
        return "raw", f"the update is tiny ({raw_bytes / 1000:.0f} kB)"
    if up_bytes_per_s is None or up_bytes_per_s <= 0:
        return "bf16", "link unknown"
    upload_s = update_bytes(parameters, _BF16_BITS) / up_bytes_per_s
    if upload_s > SLOW_SHARE * deadline_s:
        return "int8", f"slow link ({up_bytes_per_s / 1000:.0f} kB/s)"
    return "bf16", f"the link is fast enough ({up_bytes_per_s / 1000:.0f} kB/s)"


def _names(codecs: Collection[str]) -> str:
    return ", ".join(sorted(codecs)) or "none"
