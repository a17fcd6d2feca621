"""One instance name, one gateway: whoever comes second, after a crash, at the same instant or after a long sleep."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from tests.support.services import Gateway, Site
from tests.support.waiting import wait_until

NAME = "front"


def named(site: Site) -> Gateway:
    return site.start_gateway(FOREBAY_INSTANCE=NAME)


def answers(gateway: Gateway, operation: str = "on_loop") -> bool:
    return httpx.post(f"{gateway.url}/v1/{operation}", json={"tag": "x"}, timeout=30).status_code == 200


def refusal(gateway: Gateway) -> str:
    assert gateway.exit_code(60) == 2, gateway.output
    assert "Traceback" not in gateway.output
    return gateway.output.splitlines()[-1]


def test_a_second_gateway_of_one_name_is_refused_with_a_sentence(site: Site) -> None:
    first = named(site)
    first.wait_until_ready()
    second = named(site)
    said = refusal(second)
    assert said.startswith(f"forebay: the instance name '{NAME}' is another gateway's: process {first.pid} on ")
    assert "FOREBAY_INSTANCE" in said
    assert first.is_ready()


def test_of_two_that_start_at_the_same_instant_exactly_one_stays(site: Site) -> None:
    site.processor()
    for _ in range(2):
        both = [named(site), named(site)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda gateway: wait_until(lambda: _settled(gateway), 60, "it stays or ends"), both))
        [stays] = [gateway for gateway in both if gateway.process.poll() is None]
        [ends] = [gateway for gateway in both if gateway is not stays]
        assert "is another gateway's: process" in refusal(ends)
        wait_until(partial(stays.serves, "on_loop"), 30, "the app is served")
        assert answers(stays)
        stays.kill()


def _settled(gateway: Gateway) -> bool:
    return gateway.process.poll() is not None or gateway.is_ready()


def test_the_name_of_a_gateway_that_crashed_is_free_again_at_once(site: Site) -> None:
    site.processor()
    first = named(site)
    first.wait_until_ready()
    first.kill()
    begun = time.monotonic()
    second = named(site)
    second.wait_until_ready()
    assert time.monotonic() - begun < 20
    wait_until(lambda: second.serves("on_loop"), 30, "the app is served")
    assert answers(second)


def test_a_gateway_that_was_frozen_notices_that_it_lost_its_name(site: Site) -> None:
    site.processor()
    frozen = named(site)
    frozen.wait_until_ready()
    wait_until(lambda: frozen.serves("on_loop"), 30, "the app is served")
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        successor = named(site)
        successor.wait_until_ready()
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert f"is another gateway's: process {successor.pid} on " in refusal(frozen)
    wait_until(lambda: successor.serves("on_loop"), 30, "the app is served")
    assert successor.is_ready()
    assert answers(successor)


def test_gateways_without_a_name_have_one_each(site: Site) -> None:
    started = [site.start_gateway(FOREBAY_INSTANCE="") for _ in range(2)]
    for gateway in started:
        gateway.wait_until_ready()
    assert all(gateway.is_ready() for gateway in started)
