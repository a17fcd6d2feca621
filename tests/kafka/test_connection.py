"""What somebody is told whom no broker lets in."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pydantic import SecretStr

from forebay.errors import BrokerUnavailable
from forebay.kafka import Admin
from forebay.settings import Settings


async def refusal(settings: Settings, **changes: Any) -> str:
    with pytest.raises(BrokerUnavailable) as caught:
        async with Admin.connect(settings.model_copy(update=changes)):
            pytest.fail("it was let in")
    return str(caught.value)


async def test_nobody_there(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    told = await refusal(settings, bootstrap_servers=address)
    assert told == f"connecting to {address}: nobody listens at {address}"


async def test_no_such_host(settings: Settings) -> None:
    told = await refusal(settings, bootstrap_servers="nowhere.invalid:9092")
    assert told.startswith("connecting to nowhere.invalid:9092: nowhere.invalid: ")


@pytest.mark.parametrize("protocol", ["SSL", "SASL_PLAINTEXT", "SASL_SSL"])
async def test_another_security_protocol(settings: Settings, protocol: str) -> None:
    told = await refusal(
        settings,
        security_protocol=protocol,
        sasl_mechanism="PLAIN",
        sasl_username="somebody",
        sasl_password=SecretStr("not-to-be-shown"),
    )
    assert told.startswith(f"connecting to {settings.brokers}: ")
    assert told.endswith(f"; perhaps it wants another security_protocol than {protocol}")
    assert "not-to-be-shown" not in told
