"""Writes the chart's README from values.yaml: ``python k8s/readme.py [--check]``.

A value's description is the comment above it that begins with ``# --``.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "lorikeet"
_HEAD = """\
# Lorikeet's hub on Kubernetes

The hub of a fleet and its MQTT broker in one pod: one writer, one volume. Made by `python
k8s/readme.py` from `values.yaml`; edit that.

```sh
helm install lorikeet ./k8s/lorikeet --namespace edge --create-namespace \\
  --set fleet=clinics \\
  --set enrolment.publicUrl=https://hub.example.org:8443 \\
  --set broker.publicUrl=mqtts://hub.example.org:8883
```

Build its two images first (`docker/hub.Dockerfile`, `docker/broker.Dockerfile`) and push them where
the cluster finds them; `image.repository` and `broker.image.repository` say where. The chart is
linted, rendered and validated in the tests; it has not been run on a cluster yet.

What to do next stands in the notes that Helm prints. `ci/` has examples: an external broker,
everything switched on, monitoring.

| value | default | meaning |
|---|---|---|
"""


def described(text: str) -> Iterator[tuple[str, str]]:
    """Yield each described value's path and description, in the file's order."""
    path: list[tuple[int, str]] = []
    words: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            words = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and words:
            words.append(stripped.removeprefix("#").strip())
        elif stripped and not stripped.startswith(("#", "-")):
            depth = len(line) - len(line.lstrip())
            path = [one for one in path if one[0] < depth]
            path.append((depth, stripped.split(":")[0]))
            if words:
                yield ".".join(name for _, name in path), " ".join(words)
            words = []


def readme() -> str:
    """Return the README."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    told = dict(described(text))
    rows = [
        f"| `{path}` | `{json.dumps(value)}` | {told.get(path, '')} |"
        for path, value in _leaves(values, "", set(told))
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _leaves(values: dict[str, object], path: str, told: set[str]) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        here = f"{path}{key}"
        deeper = any(one.startswith(f"{here}.") for one in told)
        if isinstance(value, dict) and value and (deeper or here not in told):
            if here in told:
                yield here, "…"
            yield from _leaves(value, f"{here}.", told)
        else:
            yield here, value


def main() -> int:
    """Write it, or say whether it is current."""
    file, text = CHART / "README.md", readme()
    if "--check" in sys.argv[1:]:
        if not file.exists() or file.read_text() != text:
            sys.stderr.write(f"{file} is not that of values.yaml; run python k8s/readme.py\n")
            return 1
        return 0
    file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
