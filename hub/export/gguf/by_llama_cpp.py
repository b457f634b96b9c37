"""Types that only llama.cpp can make (K-quants): from a GGUF file in float16, by its own code.

A process of its own (``python -m hub.export.gguf.by_llama_cpp``): what llama.cpp finds wrong ends
the process, and it writes to standard error what it does.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hub.export.base_type import BaseType
from wire.errors import MalformedError

#: ``enum llama_ftype`` of llama.h.
_FILE_TYPES = {BaseType.Q4_K_M: 15}


def quantise(source: Path, path: Path, stored: BaseType) -> None:
    """Write a GGUF file in fewer bits, or replace it once the new one is whole.

    Args:
        source: in float16.
        path: of the new file.
        stored: of `_FILE_TYPES`.

    Raises:
        MalformedError: llama-cpp-python isn't installed, or llama.cpp refuses the file.
        OSError: there is no room.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise MalformedError(
            f"only llama.cpp can make {stored}, and llama-cpp-python isn't installed: "
            "pip install 'lorikeet[llama]', or take q4_0."
        )
    command = [sys.executable, "-m", "hub.export.gguf.by_llama_cpp"]
    command += ["--type", str(_FILE_TYPES[stored]), str(source), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise MalformedError(f"llama.cpp can't store {source.name} as {stored}: {said[0]}")


def main() -> int:
    """Quantise one file; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--type", type=int, required=True)
    parser.add_argument("source", type=Path)
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    import llama_cpp as lib

    settings = lib.llama_model_quantize_default_params()
    settings.ftype = arguments.type
    settings.nthread = len(os.sched_getaffinity(0))
    lib.llama_backend_init()
    with tempfile.TemporaryDirectory(dir=arguments.path.parent) as folder:
        draft = Path(folder) / "made.gguf"
        code: int = lib.llama_model_quantize(
            str(arguments.source).encode(), str(draft).encode(), settings
        )
        if code == 0:
            draft.replace(arguments.path)
    return code


if __name__ == "__main__":
    sys.exit(main())
