from __future__ import annotations

import pytest

from fer_edge.errors import InputError
from fer_edge_device.mqtt.address import parse_address


@pytest.mark.parametrize(
    ("url", "text", "user"),
    [
        ("mqtt://broker", "mqtt://broker:1883", ""),
        ("mqtts://broker/", "mqtts://broker:8883", ""),
        ("MQTT://ada@broker.lan:1884", "mqtt://broker.lan:1884", "ada"),
        ("mqtt://ada%40home@10.0.0.2", "mqtt://10.0.0.2:1883", "ada@home"),
        ("mqtt://ada@home.net@broker", "mqtt://broker:1883", "ada@home.net"),
        ("mqtts://[fe80::1]", "mqtts://[fe80::1]:8883", ""),
        ("mqtt://ada@[::1]:99", "mqtt://[::1]:99", "ada"),
    ],
)
def test_parses_addresses(url: str, text: str, user: str) -> None:
    address = parse_address(url)
    assert (str(address), address.user) == (text, user)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("broker", "an address looks like"),
        ("http://broker", "an address looks like"),
        ("mqtt://", "an address looks like"),
        ("mqtt://broker:0", "an address looks like"),
        ("mqtt://broker:70000", "an address looks like"),
        ("mqtt://broker:s3cret", "an address looks like"),
        ("mqtt://fe80::1", "IPv6"),
        ("mqtt://[fe80::1", "IPv6"),
        ("mqtt://broker/topic", "with nothing after it"),
        ("mqtt://ada:s3cret@broker", r"the address must not contain a password; .*mqtt\.password_file"),
        ("mqtt://ada:s3/cret#@broker:1", "the address must not contain a password"),
    ],
)
def test_refuses_invalid_addresses_without_repeating_a_password(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        parse_address(url)
    assert "s3" not in str(refused.value)
