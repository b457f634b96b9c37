"""The supervisor's part of wire costs it no numpy."""

import subprocess
import sys

LEAN = (
    "wire.messages",
    "wire.topics",
    "wire.transfer",
    "wire.blobs",
    "wire.partial",
    "wire.manifest",
    "wire.codecs",
    "wire.link",
)
HEAVY = ("numpy", "safetensors", "torch")


def test_what_the_supervisor_imports_brings_no_numpy() -> None:
    code = f"import sys, {', '.join(LEAN)}; print(*(set({HEAVY}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_the_codecs_names_are_known_without_loading_one() -> None:
    code = (
        "import sys; from wire.codecs import CODEC_NAMES; "
        "print(*CODEC_NAMES, 'numpy' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = run.stdout.split()
    assert {"raw", "bf16", "int8"} <= set(names)
    assert names[-1] == "False"
