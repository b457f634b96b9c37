"""In which codec a device sends its update."""

from collections.abc import Collection, Mapping

#: Updates of at most so many numbers take 8 bits each: 4 KiB. Prompts and cores are such.
FEW_NUMBERS = 4096
FEW, MANY = "int8", "entropy"


def update_bytes(parameters: int, bits: float) -> int:
    """Return the size of an update, headers left out."""
    return int(-(-parameters * bits // 8))


def choose_codec(
    wanted: str,
    *,
    hub: Mapping[str, float],
    device: Collection[str],
    parameters: int,
    biased: Collection[str] = (),
) -> tuple[str | None, str]:
    """Return the codec and why; None if there is none that both sides know.

    ``auto`` takes entropy, which loses nothing that the mean over some devices would keep (ADR 11),
    and int8 for the few numbers of a prompt or a core. Where the device lacks the first choice, the
    nearest in size that it has.

    Args:
        wanted: the job's codec, or ``auto``.
        hub: the hub's codecs, with their bits per parameter.
        device: the device's codecs.
        parameters: of the update.
        biased: codecs that only a job may ask for: what they leave out comes later, or never.
    """
    common = {name: bits for name, bits in hub.items() if name in device}
    if wanted != "auto":
        if wanted in common:
            return wanted, f"codec {wanted}: the job says so"
        return None, f"the job asks for codec {wanted}; the device has {_names(device)}"
    common = {name: bits for name, bits in common.items() if name not in biased}
    if not common:
        return None, f"no common codec: the device has {_names(device)}, the hub {_names(hub)}"
    few = parameters <= FEW_NUMBERS
    first = FEW if few else MANY
    why = f"{parameters} numbers" + (" are few" if few else "")
    if first in common:
        return first, f"codec {first}: {why}"
    target = hub.get(first, 0.0)
    nearest = min(common, key=lambda name: (abs(common[name] - target), name))
    return nearest, f"codec {nearest}: {why}, but the device has no {first}"


def _names(codecs: Collection[str]) -> str:
    return ", ".join(sorted(codecs)) or "none"
