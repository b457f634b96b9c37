"""Updates without backprop: steps along common directions, taken again and written as cores."""

from collections.abc import Mapping
from pathlib import Path

from hub.aggregation.contract import Array, RefusedUpdateError
from wire.codecs import by_name
from wire.errors import MalformedError
from wire.forward_only import MOST_BYTES, Moves, parse_steps, replay
from wire.manifest import AdapterManifest
from wire.tensors import write_packed
from wire.trained_factors import update_shapes


def check_steps(
    update: Path, manifest: AdapterManifest, side: int, seed: int, *, steps: int, reach: float
) -> None:
    """Check an update against what its device was offered.

    Args:
        update: the blob.
        manifest: of the adapter that the device started from.
        side: of its cores.
        seed: of the round's directions.
        steps: that were asked for.
        reach: greatest root mean square of a core's move.

    Raises:
        RefusedUpdateError: it is malformed, of another adapter's size, or a core moved out of all
            proportion. The message is meant for the device.
    """
    try:
        moves = _replayed(update, core_shapes(manifest, side), seed, steps)
    except MalformedError as error:
        raise RefusedUpdateError(f"the update is malformed: {error}") from error
    moved = moves.rms()
    if not moved <= reach:
        raise RefusedUpdateError(
            f"a core moved by {moved:.3g} per entry (root mean square); the work offered allows "
            f"{reach:.3g}."
        )


def write_cores(
    update: Path, out: Path, manifest: AdapterManifest, side: int, seed: int, *, steps: int
) -> None:
    """Write what an accepted update's steps lead to, as a packed set of cores.

    Args:
        update, manifest, side, seed, steps: as for `check_steps`.
        out: the file.

    Raises:
        MalformedError: the update isn't what was accepted.
    """
    shapes = core_shapes(manifest, side)
    values = _replayed(update, shapes, seed, steps).values()
    cores: dict[str, Array] = {}
    first = 0
    for name, shape in shapes.items():
        size = shape[0] * shape[1]
        cores[name] = values[first : first + size].reshape(shape)
        first += size
    with out.open("wb") as file:
        write_packed(file, shapes, cores.__getitem__, by_name("raw"), seed=0)


def core_shapes(manifest: AdapterManifest, side: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each core by name, in the order of the targets' names."""
    return dict(sorted(update_shapes(manifest.expected_lora(side), "core").items()))


def _replayed(update: Path, shapes: Mapping[str, tuple[int, ...]], seed: int, steps: int) -> Moves:
    if not shapes:
        raise MalformedError("the job has no cores.")
    size = update.stat().st_size
    if size > MOST_BYTES:
        raise MalformedError(f"it has {size} bytes; at most {MOST_BYTES} can be steps.")
    taken = parse_steps(update.read_bytes(), steps)
    return replay(seed, [shape[0] for shape in shapes.values()], taken)
