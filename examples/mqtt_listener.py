"""Listen to the messages that `fer-edge run` publishes to an MQTT broker.

    fer-edge run --source demo --node kitchen --mqtt mqtt://localhost
    python examples/mqtt_listener.py --host localhost

Needs only paho-mqtt, not fer-edge: it can run on another machine, and shows what any other MQTT client gets.
"""

import argparse
import json
import sys
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode


class Listener:
    """Prints the events and the availability of every node.

    Attributes:
        left: how many events to wait for; None for ever.
    """

    def __init__(self, prefix: str, events: int | None) -> None:
        """Prepare to listen under a topic prefix."""
        self.left = events
        self._prefix = prefix
        self._seen: set[tuple[str, float, str]] = set()

    def on_connect(
        self, client: mqtt.Client, _data: object, _flags: mqtt.ConnectFlags, code: ReasonCode, _props: Properties | None
    ) -> None:
        """Subscribe, again after each loss of the connection."""
        if code.is_failure:
            print(f"the broker refuses: {code}", file=sys.stderr)
            client.disconnect()
            return
        client.subscribe([(f"{self._prefix}/+/event", 1), (f"{self._prefix}/+/availability", 1)])

    def on_message(self, client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
        """Print one message."""
        node, kind = message.topic.removeprefix(f"{self._prefix}/").split("/")
        if kind == "availability":  # plain text: online or offline; retained, so that it comes at once
            print(f"{node} is {message.payload.decode()}", flush=True)
            return
        event = json.loads(message.payload)
        # A broker delivers each event at least once; this is how to tell a repeat.
        key = (event["id"], event["time"], event["event_type"])
        if key in self._seen:
            return
        self._seen.add(key)
        print(f"{node}: {event['event_type']:<6} {event['emotion']} {event['score']:.0%}", flush=True)
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                client.disconnect()


def main() -> None:
    """Read the command line and listen."""
    parser = argparse.ArgumentParser(description="Print what fer-edge publishes to an MQTT broker.")
    parser.add_argument("--host", default="localhost", help="the broker")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--prefix", default="fer-edge", help="first part of the topics: mqtt.topic_prefix")
    parser.add_argument("--user", help="user name, if the broker wants one")
    parser.add_argument("--password-file", metavar="FILE", help="file with the password in its first line")
    parser.add_argument("--events", type=int, metavar="N", help="stop after so many events")
    options = parser.parse_args()

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    listener = Listener(options.prefix, options.events)
    client.on_connect, client.on_message = listener.on_connect, listener.on_message
    if options.user:
        password = Path(options.password_file).read_text(encoding="utf-8") if options.password_file else ""
        client.username_pw_set(options.user, password.partition("\n")[0])
    try:
        client.connect(options.host, options.port)
    except OSError as error:
        reason = error.strerror or error
        sys.exit(
            f"mqtt_listener.py: no broker at {options.host}:{options.port} ({reason}); start one, or give --host and"
            " --port"
        )
    client.loop_forever()  # connects again after a loss


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
    except OSError as error:
        sys.exit(f"mqtt_listener.py: {error}")
