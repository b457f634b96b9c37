"""The demo's texts split otherwise than by package, to see what unlike devices do."""

from pathlib import Path
from typing import Literal, get_args

from hub.demo.texts import (
    CAP_BYTES,
    PACKAGES,
    DeviceText,
    read_passages,
    write_device_texts,
    write_passages,
)
from hub.simulation.partition import Parts, by_label, by_length, by_quantity

#: By what the text is divided: each device has packages of its own; unlike mixtures of packages; of
#: short and long passages; the same mixture, but unlike amounts.
Split = Literal["holder", "label", "length", "quantity"]
SPLITS: tuple[Split, ...] = get_args(Split)

#: With fewer a device might have no text to be measured on.
LEAST_PASSAGES = 20


def write_split_texts(
    folder: Path, split: Split, alpha: float, seed: int, cap_bytes: int = CAP_BYTES
) -> list[DeviceText]:
    """Write the private text of each of the six devices; the same text at every call.

    Args:
        folder: made if it is not there; one file a device is written.
        split: by what it is divided.
        alpha: Dirichlet's concentration; ``holder`` has none.
        seed: of the draw.
        cap_bytes: at most so much text of each of the six themes.

    Raises:
        TextError: a package has no sources in this installation.
        PartitionError: an alpha out of range.
    """
    if split == "holder":
        return write_device_texts(folder, cap_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    passages = [one for packages in PACKAGES for one in read_passages(packages, cap_bytes)]
    devices = len(PACKAGES)
    parts: Parts
    if split == "label":
        parts = by_label([one.package for one in passages], devices, alpha, seed)
    elif split == "length":
        parts = by_length([len(one.text) for one in passages], devices, alpha, seed)
    else:
        parts = by_quantity(len(passages), devices, alpha, seed, LEAST_PASSAGES)
    return [
        write_passages(folder, f"part-{number}", [passages[index] for index in part])
        for number, part in enumerate(parts, start=1)
    ]
