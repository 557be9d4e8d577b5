"""An MQTT client whose memory a broker cannot fill."""

from __future__ import annotations

from typing import Final, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import MessageType, MQTTErrorCode

MAX_PACKET: Final = 65_536  # bytes; MQTT allows 256 MB, and nothing that a node subscribes to needs more than a few
PACKET_TOO_LARGE: Final = f"sent a packet of more than {MAX_PACKET:,} bytes"
_MAX_TOPIC: Final = 1024  # bytes of a topic that are read of a packet that is too large
# The bits of a packet's first byte.
_TYPE: Final = 0xF0
_QOS: Final = 0x06
_QOS_2: Final = 0x04
_RETAIN: Final = 0x01


class LargeMessage(NamedTuple):
    """A message that was not read because of its length.

    Attributes:
        topic: its topic, or the beginning of a very long one.
        retained: whether the broker keeps it, and will send it again at the next subscription.
    """

    topic: str
    retained: bool


class BoundedClient(paho.Client):
    """Ends the connection if the broker announces a packet that is too large.

    With MQTT 5 a broker is told the limit, and does not pass on larger messages. Other brokers, and what only claims to
    be a broker, have to be stopped.

    Attributes:
        large_message: the message that ended the connection; None if nothing or another packet did.
    """

    large_message: LargeMessage | None = None

    def _sock_recv(self, bufsize: int) -> bytes:
        packet = self._in_packet
        # The first read of a packet's content asks for all of it.
        if not packet["have_remaining"] or packet["remaining_length"] <= MAX_PACKET:
            return super()._sock_recv(bufsize)
        if packet["command"] & _TYPE == MessageType.PUBLISH:
            # The topic comes first, after its length. paho asks again after each read.
            start = packet["packet"]
            length = 2 + min(int.from_bytes(start[:2], "big"), _MAX_TOPIC) if len(start) >= 2 else 2
            if len(start) < length:
                return super()._sock_recv(length - len(start))
            topic = start[2:].decode(errors="replace")
            self.large_message = LargeMessage(topic, bool(packet["command"] & _RETAIN))
        raise ConnectionAbortedError(PACKET_TOO_LARGE)

    def _handle_publish(self) -> MQTTErrorCode:
        # Nothing is subscribed to with QoS 2, whose messages the client would keep until the broker releases them.
        if self._in_packet["command"] & _QOS == _QOS_2:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()
