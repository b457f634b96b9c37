"""Makes one derived base: ``python -m hub.derived.make '{"kind": ..., ...}'``.

A process of its own, so that the memory and the threads of the hub stay with its rounds. It prints
the manifest of what it made, or why it can't, and ends with its parent.
"""

import os
import shutil
import sys
import threading
from pathlib import Path
from typing import NoReturn

import msgspec

from hub.hash_cache import hash_file
from hub.models import ModelFile, ModelManifest
from wire.errors import WireError

#: Of a base's files, those that hold weights; the others go along: its tokenizer, its settings.
_WEIGHTS = (".safetensors", ".gguf")
_INDEX = ".safetensors.index.json"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made."""

    kind: str  # of `wire.derived.DERIVED`
    folder: str  # of the base
    files: list[str]  # of the base, by name
    digest: str  # of the base's manifest
    out: str  # an empty folder


class Made(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of it."""

    manifest: ModelManifest | None = None
    reason: str = ""  # why it can't be made, whenever it is tried
    failure: str = ""  # why it failed this time


def make(order: Order) -> ModelManifest:
    """Write a derived base's files; return their manifest.

    Raises:
        WireError: what reads such files would compute something else, or the base is broken.
        OSError: a file can't be read or written.
    """
    folder, out = Path(order.folder), Path(order.out)
    runtime, _, stored = order.kind.partition("-")
    if runtime == "gguf":
        from hub.export.base_type import BaseType
        from hub.export.gguf.base import write_base

        # What it can't hold of the tokenizer stands beside it: devices read that first.
        write_base(folder, out / f"model-{stored}.gguf", BaseType(stored), order.digest)
    elif runtime == "onnx":
        from hub.export.base_type import BaseType
        from hub.export.onnx.base import write_base as write_graph

        write_graph(folder, out / f"model-{stored}.onnx", BaseType(stored), order.digest)
    else:
        raise WireError(f"{order.kind} is not known here. Update the hub.")
    for name in order.files:
        if not name.endswith((*_WEIGHTS, _INDEX)) and not (out / name).exists():
            shutil.copyfile(folder / name, out / name)
    files = [
        ModelFile(path=path.name, sha256=hash_file(path), size_bytes=path.stat().st_size)
        for path in sorted(out.iterdir())
    ]
    return ModelManifest(files=files)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> NoReturn:
    """Make what the first argument describes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    order = msgspec.json.decode(sys.argv[1], type=Order)
    try:
        made = Made(manifest=make(order))
    except WireError as error:
        made = Made(reason=str(error))
    except OSError as error:
        made = Made(failure=f"{error.strerror or error}: {error.filename or order.out}")
    sys.stdout.buffer.write(msgspec.json.encode(made))
    sys.stdout.buffer.flush()
    os._exit(0)  # a thread that waits for the parent would be waited for


if __name__ == "__main__":
    main()
