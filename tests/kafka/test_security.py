"""A broker reached by TLS that wants a password: those with what it takes are let in, others are told why not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from forebay.errors import AccessRefused
from forebay.kafka import Admin, PinnedConsumer, Producer
from forebay.settings import Settings, load_settings
from forebay_broker import EmbeddedBroker
from forebay_broker.java import find_java
from tests.support.ports import free_ports
from tests.support.waiting import until

WORD = "swordfish"


def certificate(folder: Path, name: str) -> Path:
    """Make a key and a certificate for 127.0.0.1, and return the certificate's file; the key's has the suffix p12."""
    keytool = find_java().path.resolve().with_name("keytool")
    store = ["-alias", name, "-keystore", str(folder / f"{name}.p12"), "-storepass", WORD]
    subject = ["-dname", f"CN={name}", "-ext", "SAN=ip:127.0.0.1", "-validity", "10", "-keyalg", "EC"]
    subprocess.run([keytool, "-genkeypair", "-storetype", "PKCS12", *subject, *store], check=True, capture_output=True)
    pem = folder / f"{name}.pem"
    subprocess.run([keytool, "-exportcert", "-rfc", "-file", pem, *store], check=True, capture_output=True)
    return pem


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The settings with which one is let in."""
    folder = tmp_path_factory.mktemp("secure")
    pem = certificate(folder, "broker")
    port, secure, controller = free_ports(3)
    plain = f"BROKER://127.0.0.1:{port},SECURE://127.0.0.1:{secure}"
    further = {
        "listeners": f"{plain},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": plain,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
        "listener.name.secure.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secure.plain.sasl.jaas.config": (
            f'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="{WORD}";'
        ),
        "ssl.keystore.location": pem.with_suffix(".p12"),
        "ssl.keystore.type": "PKCS12",
        "ssl.keystore.password": WORD,
    }
    with EmbeddedBroker(port=port, data_dir=folder / "broker", settings=further):
        yield load_settings(
            bootstrap_servers=f"127.0.0.1:{secure}",
            namespace="secure.",
            security_protocol="SASL_SSL",
            ssl_cafile=pem,
            sasl_username="app",
            sasl_password=WORD,
        )


async def refusal(settings: Settings, **changes: Any) -> str:
    with pytest.raises(AccessRefused) as caught:
        async with Admin.connect(settings.model_copy(update=changes)):
            pytest.fail("it was let in")
    return str(caught.value)


async def test_records_are_produced_and_read(secure: Settings) -> None:
    async with Admin.connect(secure) as admin:
        await admin.create("secure.things", 1, -1, {})
        await until(lambda: admin.describe(["secure.things"]), 30.0, "the topic exists")
    async with AsyncExitStack() as stack:
        producer, consumer = Producer(secure, "test"), PinnedConsumer(secure, "test", "secure.things")
        for client in (producer, consumer):
            stack.push_async_callback(client.stop)
            await client.start()
        await producer.publish_and_wait("secure.things", b"value", key=b"key")
        assert [record.value for record in await consumer.fetch(30.0)] == [b"value"]


async def test_another_password(secure: Settings) -> None:
    told = await refusal(secure, sasl_password=SecretStr("not-to-be-shown"))
    assert told.startswith(f"settings sasl_username and sasl_password: {secure.brokers} refuses them: ")
    assert "not-to-be-shown" not in told


async def test_a_mechanism_that_is_not_offered(secure: Settings) -> None:
    told = await refusal(secure, sasl_mechanism="SCRAM-SHA-512")
    assert told == f"setting sasl_mechanism = 'SCRAM-SHA-512': {secure.brokers} does not offer it"


@pytest.mark.parametrize("given", [True, False])
async def test_a_certificate_that_is_not_trusted(secure: Settings, tmp_path: Path, given: bool) -> None:
    other = certificate(tmp_path, "other") if given else None
    told = await refusal(secure, ssl_cafile=other)
    setting = f"ssl_cafile = '{other}'" if given else "ssl_cafile, which is not set"
    assert told.startswith(f"setting {setting}: the certificate of {secure.brokers} is refused: ")


async def test_a_certificate_for_another_name(secure: Settings) -> None:
    address = secure.brokers.replace("127.0.0.1", "localhost")
    told = await refusal(secure, bootstrap_servers=address)
    assert told.startswith(f"setting bootstrap_servers: the certificate of {address} does not fit: ")
