"""Devices as folders: the files of ``/proc``, ``/sys``, ``/dev`` and ``/etc`` in the formats that
their kernels and programs write, one text file of ``trees/`` for each device.

In such a file each content follows a line with its name between dashes; ``\\0`` stands for a NUL.
"""

import re
from pathlib import Path

_TREES = Path(__file__).with_name("trees")
DEVICES = sorted(path.stem for path in _TREES.glob("*.txt"))


def recorded(name: str) -> dict[str, str]:
    """Return a device's files."""
    parts = re.split(r"^-- (\S+) --\n", (_TREES / f"{name}.txt").read_text(), flags=re.M)
    contents = [part.replace("\\0", "\0") for part in parts[2::2]]
    return dict(zip(parts[1::2], contents, strict=True))


def lay_out(root: Path, files: dict[str, str]) -> Path:
    """Write files below a folder; those in ``bin`` are programs. Return the folder."""
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        if name.startswith("bin/"):
            path.chmod(0o755)
    return root
