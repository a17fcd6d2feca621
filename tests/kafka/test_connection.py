"""What somebody is told whom no broker lets in."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest
from pydantic import SecretStr

import forebay.kafka.link
from forebay.errors import BrokerUnavailable
from forebay.kafka import Admin, Link
from forebay.settings import Settings
from tests.support.ports import taken_port
from tests.support.waiting import until


async def refusal(settings: Settings, **changes: Any) -> str:
    with pytest.raises(BrokerUnavailable) as caught:
        async with Admin.connect(settings.model_copy(update=changes)):
            pytest.fail("it was let in")
    return str(caught.value)


async def test_nobody_there(settings: Settings) -> None:
    with taken_port() as port:
        address = f"127.0.0.1:{port}"
        told = await refusal(settings, bootstrap_servers=address)
    assert told == f"connecting to {address}: nobody listens at {address}"


async def test_no_such_host(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is given here, since a machine without a name server waits for one for long."""

    def look_up(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    told = await refusal(settings, bootstrap_servers="nowhere.invalid:9092")
    assert told == "connecting to nowhere.invalid:9092: nowhere.invalid: Name or service not known"


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


async def test_a_broker_that_is_slow_to_answer_is_asked_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="forebay.kafka.link")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(forebay.kafka.link, "METADATA_BOUND", 0.0)
        link = Link(settings, "test")
        starting = asyncio.create_task(link.start())
        await until(lambda: f"{settings.brokers} did not answer within 0 s" in caplog.text, 10, "it was too slow once")
        assert not starting.done()
    await asyncio.wait_for(starting, 30)
    await link.stop()


async def test_a_broker_that_stays_slow_is_told_as_such(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forebay.kafka.link, "METADATA_BOUND", 0.0)
    monkeypatch.setattr(forebay.kafka.link, "CONNECT_BOUND", 0.3)
    told = await refusal(settings)
    assert told == f"connecting to {settings.brokers}: {settings.brokers} did not answer within 0 s"
