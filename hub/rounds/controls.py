"""Control variates at the hub: one of each device and their mean, between rounds (SCAFFOLD).

They rest as blobs that a strategy's state names, so they go back and forth with it. The mean c is
moved by what changed: c ← (N c + Σ (cᵢ⁺ − cᵢ)) / N⁺, where N⁺ counts the devices that came in this
round for the first time, too (their cᵢ was 0). Who was late leaves them as they are: its update was
made with a c of another round.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from hub.aggregation.contract import Array, Array64, ControlRule, Trained
from hub.aggregation.vectors import PackedFiles
from wire.blobs import BlobStore
from wire.codecs import by_name
from wire.codecs.contract import Shape
from wire.errors import MalformedError
from wire.tensors import PackedFile, reading, write_packed

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
    """Return the control variates after a round; one tensor of few devices is in memory at a time.

    Args:
        store: the hub's blobs.
        shapes: of each tensor that is trained, by name.
        before: with which the round began.
        updates: the packed differences of the round's own devices.
        rule: how a device's own follows from its update.

    Raises:
        MalformedError: a blob is gone or damaged.
    """
    own = dict(before.own)
    moved: list[str] = []
    with reading(_path(store, before.common), shapes) as common:
        for trained, path in updates:
            old = _path(store, before.own.get(trained.device))
            after = partial(rule.after, steps=trained.steps, lr=trained.lr)
            own[trained.device] = _own(store, shapes, (old, path), common, after)
            moved.append(trained.device)
    if own == before.own:
        return before
    return Controls(_mean(store, shapes, before, own, moved), own)


def _own(
    store: BlobStore,
    shapes: Mapping[str, Shape],
    files: tuple[Path | None, Path],
    common: Callable[[str], Array],
    after: Callable[[Array64, Array64, Array64], Array64],
) -> str:
    """Store a device's control variate, from the one before and its update; return its sha256."""
    old, update = files
    with reading(old, shapes) as before, PackedFile.open(update, shapes) as packed:

        def moved(name: str) -> Array:
            tensors = before(name), common(name), packed.get(name)
            return after(*(one.astype(np.float64) for one in tensors)).astype(np.float32)

        return _kept(store, shapes, moved, _OWN_CODEC)


def _mean(
    store: BlobStore,
    shapes: Mapping[str, Shape],
    before: Controls,
    own: Mapping[str, str],
    moved: list[str],
) -> str:
    """Store the mean of all devices' control variates; return its sha256."""
    was, count = len(before.own), len(own)
    with reading(_path(store, before.common), shapes) as common, PackedFiles(shapes) as files:

        def mean(name: str) -> Array:
            total: Array64 = np.zeros(shapes[name], dtype=np.float64)
            for device in moved:
                total += files.get(state_blob(store, own[device]), name)
                if device in before.own:
                    total -= files.get(state_blob(store, before.own[device]), name)
            return ((was * common(name).astype(np.float64) + total) / count).astype(np.float32)

        return _kept(store, shapes, mean, _COMMON_CODEC)


def _kept(
    store: BlobStore, shapes: Mapping[str, Shape], tensor_of: Callable[[str], Array], codec: str
) -> str:
    with store.draft(
        lambda file: write_packed(file, shapes, tensor_of, by_name(codec), seed=0)
    ) as draft:
        return store.put_file(draft)


def _path(store: BlobStore, sha256: str | None) -> Path | None:
    return None if sha256 is None else state_blob(store, sha256)


def state_blob(store: BlobStore, sha256: str) -> Path:
    """Return where a blob of a strategy's state lies.

    Raises:
        MalformedError: it is gone.
    """
    path = store.path(sha256)
    if path is None:
        raise MalformedError(f"blob {sha256[:12]} of the strategy's state is gone.")
    return path
