"""The benches' models on disk: written when they are first asked for, in one folder."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.report import BenchError, say
from bench.shapes import Shape

_ROOM_BYTES = 6_000_000_000


class ModelFiles:
    """Models of random weights below one folder.

    Args:
        folder: for nothing else; what is in it already is used again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, shape: Shape, stored: str) -> Path:
        """Return a model as ``--model`` takes it.

        Args:
            shape: which one.
            stored: ``bf16`` for a folder with safetensors; else a GGUF file, ``f16``, ``q8_0`` or
                ``q4_0``.

        Raises:
            BenchError: there is no room for it.
        """
        name = shape.name if stored == "bf16" else f"{shape.name}-{stored}.gguf"
        path = self._folder / name
        if not path.exists():
            self._write(shape, stored, path)
        return path

    def files(self, shape: Shape, stored: str) -> list[Path]:
        """Return the files of a model that hold tensors."""
        path = self.path(shape, stored)
        return [path / "model.safetensors"] if path.is_dir() else [path]

    def clear(self) -> None:
        """Delete the folder with all models."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, shape: Shape, stored: str, path: Path) -> None:
        free_bytes = shutil.disk_usage(self._folder).free
        if free_bytes < _ROOM_BYTES:
            raise BenchError(
                f"{self._folder} has {free_bytes / 1e9:.1f} GB free; {_ROOM_BYTES / 1e9:.0f} GB "
                "are needed. Give another folder with --cache."
            )
        began = time.monotonic()
        # A name of its own until it is whole, so that what was cut off is never used.
        unfinished = path.with_name(f"{path.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        # A process of its own: ours would map torch's libraries from then on (see `forget`).
        command = [sys.executable, "-m", "bench.write_model", shape.name, stored, str(unfinished)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BenchError(f"{path.name} could not be written: {done.stderr[-400:]}")
        unfinished.rename(path)
        say(f"wrote {path.name} in {time.monotonic() - began:.0f} s")
