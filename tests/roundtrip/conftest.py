"""Sites: gateways and processors as real processes on the session's Kafka, with their logs shown where a test fails."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.brokers import Kafka
from tests.support.services import Gateway, Processor, Site

_LONGEST_LOG = 8000


@dataclass(frozen=True)
class Pair:
    """A gateway and a processor that a module's tests share, so none of them may stop either."""

    site: Site
    gateway: Gateway
    processor: Processor


@pytest.fixture(scope="module")
def pair(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with closing(Site(kafka.bootstrap_servers, f"t{uuid.uuid4().hex[:8]}.", folder)) as site:
        yield Pair(site, *site.pair())


@pytest_asyncio.fixture
async def client(pair: Pair) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the shared gateway."""
    async with httpx.AsyncClient(base_url=pair.gateway.url, timeout=60) as client:
        yield client


@pytest.fixture
def site(kafka: Kafka, namespace: str, tmp_path: Path) -> Iterator[Site]:
    """A site of the test's own, with nothing started."""
    with closing(Site(kafka.bootstrap_servers, namespace, tmp_path)) as site:
        yield site


@pytest.fixture
def make_site(namespace: str, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Makes sites on a Kafka of the test's choice, with further environment variables."""
    with ExitStack() as sites:
        made: list[Site] = []

        def make(kafka: Kafka, **variables: str) -> Site:
            folder = tmp_path / f"site-{len(made)}"
            folder.mkdir()
            site = Site(kafka.bootstrap_servers, namespace, folder, **variables)
            made.append(sites.enter_context(closing(site)))
            make.made = made  # type: ignore[attr-defined] # for the report of a failed test
            return site

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes of a failed test have said."""
    report = yield
    if report.when == "call" and report.failed and isinstance(item, pytest.Function):
        for value in item.funcargs.values():
            sites = getattr(value, "made", None) or [getattr(value, "site", value)]
            for site in sites:
                if isinstance(site, Site):
                    report.sections += [(f"log of {name}", text[-_LONGEST_LOG:]) for name, text in site.logs()]
    return report
