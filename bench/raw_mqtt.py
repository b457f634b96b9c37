"""The broker's own goodput: paho publishes at QoS 1 in one process, and counts in another.

``python -m bench.raw_mqtt URL receive SIZE`` prints ``ready`` when it has subscribed, and answers
once all bytes came; ``python -m bench.raw_mqtt URL send SIZE`` prints the seconds from its first
publish to that answer. The anchor uses paho itself, not our code above it.
"""

import sys
import threading
import time
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

PAYLOAD_BYTES = 64 * 1024
_DATA, _DONE = "bench/raw/data", "bench/raw/done"
_PATIENCE_S = 120.0


def receive(url: str, size_bytes: int) -> None:
    """Count payloads until all bytes came, then say so."""
    done, subscribed = threading.Event(), threading.Event()
    seen = [0]
    client = _client(url)

    def on_message(_client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        seen[0] += len(message.payload)
        if seen[0] >= size_bytes:
            done.set()

    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.loop_start()
    client.subscribe(_DATA, 1)
    _wait(subscribed)
    print("ready", flush=True)
    _wait(done)
    client.publish(_DONE, b"", 1).wait_for_publish(_PATIENCE_S)
    _leave(client)


def send(url: str, size_bytes: int) -> float:
    """Publish so many bytes; return the seconds until the receiver has them all."""
    answered, subscribed = threading.Event(), threading.Event()
    client = _client(url)
    client.on_message = lambda *_: answered.set()
    client.on_subscribe = lambda *_: subscribed.set()
    client.loop_start()
    client.subscribe(_DONE, 1)
    _wait(subscribed)
    payload = bytes(PAYLOAD_BYTES)
    began = time.perf_counter()
    for at in range(0, size_bytes, PAYLOAD_BYTES):
        client.publish(_DATA, payload[: min(PAYLOAD_BYTES, size_bytes - at)], 1)
    _wait(answered)
    seconds = time.perf_counter() - began
    _leave(client)
    return seconds


def _client(url: str) -> mqtt.Client:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    address = urlsplit(url)
    client.connect(str(address.hostname), address.port or 1883)
    return client


def _wait(event: threading.Event) -> None:
    if not event.wait(_PATIENCE_S):
        sys.exit(f"nothing came within {_PATIENCE_S:.0f} s")


def _leave(client: mqtt.Client) -> None:
    client.disconnect()
    client.loop_stop()


if __name__ == "__main__":
    if sys.argv[2] == "receive":
        receive(sys.argv[1], int(sys.argv[3]))
    else:
        print(send(sys.argv[1], int(sys.argv[3])))
