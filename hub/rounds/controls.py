"""Control variates at the hub: one of each device and their mean, between rounds (SCAFFOLD).

They rest as blobs that a strategy's state names, so they go back and forth with it. The mean c is
moved by what changed: c ← (N c + Σ (cᵢ⁺ − cᵢ)) / N⁺, where N⁺ counts the devices that came in this
round for the first time, too (their cᵢ was 0). Who was late leaves them as they are: its update was
made with a c of another round.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hub.aggregation.contract import Array, Array64, ControlRule, Trained
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.codecs.contract import Shape
from wire.errors import MalformedError
from wire.tensors import PackedFile, pack

#: Of a device's own: its rounding is no error, since the hub reckons with what the device decodes.
_OWN_CODEC = "bf16"
#: Of their mean, which is moved by differences: rounding would add up.
_COMMON_CODEC = "raw"


@dataclass(frozen=True)
class Controls:
    """The blobs of all control variates."""

    common: str | None  # sha256; None before the first round
    own: Mapping[str, str]  # by device


def advance(
    store: BlobStore,
    shapes: Mapping[str, Shape],
    before: Controls,
    updates: Iterable[tuple[Trained, Path]],
    rule: ControlRule,
) -> Controls:
    """Return the control variates after a round; one device's are in memory at a time.

    Args:
        store: the hub's blobs.
        shapes: of each tensor that is trained, by name.
        before: with which the round began.
        updates: the packed differences of the round's own devices.
        rule: how a device's own follows from its update.

    Raises:
        MalformedError: a blob is gone or damaged.
    """
    common = _read(store, before.common, shapes)
    moved = {name: np.zeros(shape, dtype=np.float64) for name, shape in shapes.items()}
    own = dict(before.own)
    for trained, path in updates:
        old = _read(store, before.own.get(trained.device), shapes)
        with PackedFile.open(path, shapes) as packed:
            new: dict[str, Array] = {
                name: rule.after(
                    old[name],
                    common[name],
                    packed.get(name).astype(np.float64),
                    trained.steps,
                    trained.lr,
                ).astype(np.float32)
                for name in shapes
            }
        own[trained.device] = store.put(pack(new, by_name(_OWN_CODEC), seed=0))
        after = _read(store, own[trained.device], shapes)
        for name in shapes:
            moved[name] += after[name] - old[name]
    count, was = len(own), len(before.own)
    if own == before.own:
        return before
    mean = {
        name: ((was * common[name] + moved[name]) / count).astype(np.float32) for name in shapes
    }
    return Controls(store.put(pack(mean, by_name(_COMMON_CODEC), seed=0)), own)


def _read(store: BlobStore, sha256: str | None, shapes: Mapping[str, Shape]) -> dict[str, Array64]:
    if sha256 is None:
        return {name: np.zeros(shape, dtype=np.float64) for name, shape in shapes.items()}
    path = store.path(sha256)
    if path is None:
        raise MalformedError(f"blob {sha256[:12]} of a control variate is gone.")
    with PackedFile.open(path, shapes) as packed:
        return {name: packed.get(name).astype(np.float64) for name in shapes}
