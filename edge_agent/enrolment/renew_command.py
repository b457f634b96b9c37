"""``python -m edge_agent.enrolment.renew_command STATE``: one renewal, in a process of its own.

So an agent that waits never holds TLS keys' library in its memory.
"""

import sys
from pathlib import Path

from edge_agent.endings import exit_codes
from edge_agent.enrolment.enrol import renew


def main() -> None:
    """Renew; exit 0, or 1 with the reason on standard error."""
    with exit_codes():
        renew(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
