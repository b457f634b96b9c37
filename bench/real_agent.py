"""``lorikeet-agent run``, as the benches start it."""

from pathlib import Path

from bench.stand import FLEET
from hub.demo.fleet import command_beside


def agent_command(
    broker_url: str, device: str, text: Path, state: Path, *, memory: str = "1500MB"
) -> list[str | Path]:
    """Return the command of an agent with one thread.

    Args:
        broker_url: as the device reaches it.
        device: its id.
        text: its private text.
        state: the folder of its files.
        memory: its limit.
    """
    return [
        command_beside("lorikeet-agent"), "run", "--broker", broker_url, "--fleet", FLEET,
        "--id", device, "--data", text, "--memory", memory, "--threads", "1", "--state", state,
    ]  # fmt: skip
