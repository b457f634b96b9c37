"""What the supervisor imports to speak to its worker is light."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_the_supervisor_imports_brings_no_torch_and_no_numpy():
    modules = ["planner", "worker_process", "training.data", "fetch", "worker", "protocol"]
    code = "import sys\n" + "".join(f"import edge_agent.{name}\n" for name in modules)
    code += "heavy = {'torch', 'numpy', 'safetensors', 'transformers'} & set(sys.modules)\n"
    code += "sys.exit(str(heavy) if heavy else 0)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
