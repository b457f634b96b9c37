"""A base with all its weights trained, as a model's folder that transformers loads."""

from pathlib import Path

from hub.aggregation.contract import GlobalAdapter
from wire.tensors import reading
from wire.whole_model import write_whole


def export_whole(adapter: GlobalAdapter, folder: Path, base: Path) -> None:
    """Write the trained model.

    Args:
        adapter: by how much each weight has moved.
        folder: made if it isn't there; files of an older export are replaced.
        base: the base model's folder.

    Raises:
        WireError: a file isn't what it was when the job began.
        OSError: a file can't be read or written.
    """
    shapes = adapter.manifest.expected_full()
    with reading(adapter.full, shapes) as moved:
        write_whole(folder, base, moved, shapes)
