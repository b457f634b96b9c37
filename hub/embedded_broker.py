"""amqtt as a process of its own, where no mosquitto is installed; MQTT 3.1.1 on loopback.

Good for a demo and for tests: it keeps no sessions, and its memory grows with a slow subscriber.
"""

import argparse
import asyncio
import logging
import signal
from pathlib import Path
from typing import Any


def configuration(port: int) -> dict[str, Any]:
    """Return amqtt's settings: one TCP listener on loopback, anonymous clients, no plugins else."""
    return {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {
            "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
        },
    }


async def serve(port: int) -> None:
    """Run the broker until SIGTERM or SIGINT."""
    from amqtt.broker import Broker

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    broker = Broker(configuration(port))
    await broker.start()
    await stop.wait()
    await broker.shutdown()


def main() -> None:
    """Serve on the given port of loopback."""
    parser = argparse.ArgumentParser(prog="python -m hub.embedded_broker", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, help="only tells whose broker this is")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve(arguments.port))


if __name__ == "__main__":
    main()
