"""What a tokenizer costs: which modules it imports, and that its memory comes back."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

LOADED = """
import json, sys
from pathlib import Path
from edge_agent.training.tokenizer import load_tokenizer

load_tokenizer(Path(sys.argv[1])).ids("some text")
print(json.dumps(sorted({"torch", "transformers", "numpy", "jinja2"} & set(sys.modules))))
"""
HELD = """
import json, sys
from pathlib import Path
from edge_agent.training.tokenizer import load_tokenizer

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

tokenizer = load_tokenizer(Path(sys.argv[1]))
sizes = []
for _ in range(2):
    tokenizer.ids("some text")
    sizes.append(held())
    tokenizer.release()
    sizes.append(held())
print(json.dumps(sizes))
"""


def told(script: str, folder: Path) -> list:
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("kind", "heavy"), [("bytes", []), ("qwen2", ["jinja2"])])
def test_a_tokenizer_needs_neither_torch_nor_transformers(tokenizer_folders, kind, heavy):
    assert told(LOADED, tokenizer_folders[kind]) == heavy


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read it from")
def test_the_memory_of_a_vocabulary_comes_back(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(word) for length in (1, 2, 3) for word in product(letters, repeat=length)]
    vocabulary = {word: number for number, word in enumerate(words)}
    merges = [[word[:-1], word[-1]] for word in words if len(word) > 1]
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": model}))
    _, empty, full_again, empty_again = told(HELD, tmp_path)
    assert full_again - empty > 2_000_000  # 18,278 tokens and as many merges
    assert empty_again - empty < 0.25 * (full_again - empty)
