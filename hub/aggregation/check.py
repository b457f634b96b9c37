"""Is this blob the update that was asked for? Checked before it is accepted, tensor by tensor."""

import math
from pathlib import Path

import numpy as np

from hub.aggregation.contract import Kind, RefusedUpdateError
from wire.errors import MalformedError
from wire.manifest import AdapterManifest
from wire.tensors import PackedFile
from wire.trained_factors import Trains, update_shapes

#: How many times further than the optimiser's steps reach an update may have moved.
OUT_OF_PROPORTION = 10.0


def reach(lr: float, steps: int) -> float:
    """Return how far, per entry, an update may have moved: far more than honest training does.

    Adam moves an entry by about ``lr`` a step (Kingma and Ba 2015, arXiv 1412.6980, section 2.1),
    SGD by less unless gradients exceed 1, so an honest root mean square stays under lr × steps.
    """
    return OUT_OF_PROPORTION * lr * steps


def check_update(
    update: Path | bytes,
    kind: Kind,
    manifest: AdapterManifest,
    *,
    rank: int,
    codec: str,
    max_rms: float,
    trains: Trains = "both",
) -> None:
    """Check an update against what its device was offered.

    Args:
        update: the packed blob; a file is read one tensor at a time.
        kind: which part of the adapter was to be trained.
        manifest: of the adapter that the device started from.
        rank: of the device's factors; ignored for other parts.
        codec: name of the codec offered.
        max_rms: greatest root mean square of any tensor's difference; see `reach`.
        trains: which LoRA factors were to be trained.

    Raises:
        RefusedUpdateError: names, shapes, codec or sizes differ, a value isn't finite, or a
            tensor moved out of all proportion. The message is meant for the device.
    """
    expected = {
        "lora": update_shapes(manifest.expected_lora(rank), trains),
        "prompt": manifest.expected_prompt(),
        "full": manifest.expected_full(),
    }[kind]
    if kind == "lora" and not 0 < rank <= manifest.rank:
        raise RefusedUpdateError(f"rank is {rank}; the adapter allows 1 to {manifest.rank}.")
    if not expected:
        raise RefusedUpdateError(f"the job has no {kind} part to update.")
    try:
        with PackedFile.open(update, expected) as packed:
            if packed.codec != codec:
                raise RefusedUpdateError(f"codec is {packed.codec!r}; {codec!r} was offered.")
            for name in sorted(expected):
                moved = _rms(packed, name)
                if not moved <= max_rms:
                    raise RefusedUpdateError(
                        f"{name} moved by {moved:.3g} per entry (root mean square); the work "
                        f"offered allows {max_rms:.3g}."
                    )
    except MalformedError as error:
        raise RefusedUpdateError(f"the update is malformed: {error}") from error


def _rms(packed: PackedFile, name: str) -> float:
    values = packed.get(name).ravel()
    total = float(np.einsum("i,i->", values, values, dtype=np.float64))
    return math.sqrt(total / values.size)
