"""A container's health check: ``python -m edge_agent.doctor.health STATE_FOLDER``.

The check ``agent`` of `lorikeet-agent doctor` without what reads options and prints tables: it runs
once a minute within the device's own memory.
"""

import sys
import time
from pathlib import Path

from edge_agent.doctor.agent import check_agent
from edge_agent.doctor.contract import Subject


def main() -> int:
    """Print what the check says; return 1 if it failed."""
    folder = Path(sys.argv[1])
    subject = Subject(folder=folder, settings=None, root=Path("/"), now=time.time())
    found = check_agent(subject)
    for one in found:
        sys.stdout.write(f"{one.level} {one.check}: {one.found}\n")
    return int(any(one.level == "fail" for one in found))


if __name__ == "__main__":
    sys.exit(main())
