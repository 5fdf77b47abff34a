"""Public text contains no addresses."""

import pytest

from poise.errors import RetryableError
from poise.text.public_text import redact_addresses


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("backend default at 127.0.0.1:31958 gave no answer", "backend default at (address) gave no answer"),
        ("Connect call failed ('10.0.0.7', 443)", "Connect call failed (address)"),
        ("Connect call failed ('::1', 443, 0, 0)", "Connect call failed (address)"),
        (
            "Unable to bootstrap from [('kafka-1.internal', 28475, <AddressFamily.AF_UNSPEC: 0>)]",
            "Unable to bootstrap from [(address)]",
        ),
        ("the model at fd00::7 and 2001:db8:0:1::2 is away", "the model at (address) and (address) is away"),
        ("upstream http://vllm-2.internal:8000/v1 is away", "upstream http://(address)/v1 is away"),
        ("redis://redis:6379/0 and http://vllm-2/v1", "redis://(address)/0 and http://(address)/v1"),
        ('Unable connect to "kafka:9092"', 'Unable connect to "(address)"'),
        ("(host='kafka-1.internal', port=443)", "(host='(address)', port=443)"),
        ("Connection at kafka:9092 closed", "Connection at (address) closed"),
        ("no broker at kafka-1.internal:9092, nor kafka-2.internal:9092", "no broker at (address), nor (address)"),
        ("upstream: http://10.0.0.7/v1", "upstream: http://(address)/v1"),
        ("at [::1]:8080, [fd00::7] and localhost:9092", "at (address), (address) and (address)"),
        ("https://api.example:443/v1 or API.example", "https://(address)/v1 or (address)"),
        ("model:8081 is no model", "(address) is no model"),
        ("not api.example.org, my-api.example or api.example-2", None),
        ("step 3.4 of 10, version 1.2.3, poise.toml:15, 12:30, [1]", None),
    ],
)
def test_addresses_are_redacted(text: str, public: str | None) -> None:
    assert redact_addresses(text, "api.example", "model") == (public or text)


def test_faults_contain_no_address() -> None:
    error = RetryableError("no broker answers at 127.0.0.1:9092: [('10.0.0.7', 9092)]")
    assert error.fault().detail == "no broker answers at (address): [(address)]"
    assert "127.0.0.1:9092" in str(error), "logs have it"
