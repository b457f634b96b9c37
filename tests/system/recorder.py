"""Records every message of a broker as its sender published it: topic, payload, QoS, retain flag.

MQTT 5, since only there a subscriber may ask to see the sender's retain flag (MQTT 5.0, section
3.8.3.1, "Retain As Published"); under 3.1.1 a broker clears it for those who already listen.
"""

import threading
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.subscribeoptions import SubscribeOptions


class Recorded(NamedTuple):
    """A message as it was published."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


class Recorder:
    """Everything that was published between `start` and `stop`, and what was retained before."""

    def __init__(self, host: str, port: int) -> None:
        self.messages: list[Recorded] = []
        self._listening = threading.Event()
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="recorder", protocol=mqtt.MQTTv5
        )
        client.on_connect = self._on_connect
        client.on_subscribe = lambda *_: self._listening.set()
        client.on_message = self._on_message
        client.connect(host, port)
        self._client = client

    def __enter__(self) -> "Recorder":
        self._client.loop_start()
        assert self._listening.wait(10), "the recorder got no answer to its subscription"
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, *_: Any) -> None:
        client.subscribe("#", options=SubscribeOptions(qos=2, retainAsPublished=True))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.messages.append(
            Recorded(message.topic, bytes(message.payload), message.qos, message.retain)
        )
