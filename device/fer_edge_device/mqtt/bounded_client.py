"""A client of MQTT that a broker cannot fill the memory of."""

from __future__ import annotations

from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

MAX_PACKET: Final = 65_536  # bytes; MQTT allows 256 MB, and nothing that a node subscribes to needs more than a few
PACKET_TOO_LARGE: Final = f"sent a packet of more than {MAX_PACKET:,} bytes"
_QOS: Final = 0x06  # the bits of a packet's first byte
_QOS_2: Final = 0x04


class BoundedClient(paho.Client):
    """Ends the connection if the broker announces a packet that is too large.

    With MQTT 5 a broker is told the limit, and does not pass on larger messages. Other brokers, and what only claims to
    be a broker, have to be stopped.
    """

    def _sock_recv(self, bufsize: int) -> bytes:
        # The first read of a packet's content asks for all of it.
        if bufsize > MAX_PACKET:
            raise ConnectionAbortedError(PACKET_TOO_LARGE)
        return super()._sock_recv(bufsize)

    def _handle_publish(self) -> MQTTErrorCode:
        # Nothing is subscribed to with QoS 2, whose messages the client would keep until the broker releases them.
        if self._in_packet["command"] & _QOS == _QOS_2:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()
