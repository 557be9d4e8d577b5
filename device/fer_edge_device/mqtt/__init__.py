"""MQTT: connection, outbox, Home Assistant."""
