from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebay.errors import ConfigurationError
from forebay.settings import Settings, load_settings
from forebay_cli.plan import Wanted, make_plan, ports, url


@pytest.fixture(autouse=True)
def _no_settings_but_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FOREBAY_BOOTSTRAP_SERVERS", raising=False)


def settings(**flags: Any) -> Settings:
    return load_settings(**flags)


def after(command: Any, flag: str) -> str:
    words = list(command)
    return str(words[words.index(flag) + 1])


def test_without_a_cluster_there_is_a_broker_and_the_others_use_it() -> None:
    plan = make_plan(settings(broker_port=19999), Wanted(["m:a"]))
    assert plan.names == ["broker", "processor-1", "gateway-1"]
    assert plan.broker is not None
    assert after(plan.broker.command, "--port") == "19999"
    for program in (*plan.processors, *plan.gateways):
        assert after(program.command, "--bootstrap-servers") == "127.0.0.1:19999"


def test_a_cluster_given_by_flag_variable_or_file_is_used_in_place_of_a_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.toml").write_text('bootstrap_servers = "kafka:1"\n')
    monkeypatch.setenv("FOREBAY_NAMESPACE", "n.")
    plans = [
        make_plan(settings(bootstrap_servers="kafka:1"), Wanted(["m:a"])),
        make_plan(settings(config=Path("other.toml")), Wanted(["m:a"], config=Path("other.toml"))),
    ]
    monkeypatch.setenv("FOREBAY_BOOTSTRAP_SERVERS", "kafka:1")
    plans.append(make_plan(settings(), Wanted(["m:a"])))
    for plan in plans:
        assert plan.names == ["processor-1", "gateway-1"]
        assert {after(program.command, "--bootstrap-servers") for program in (*plan.processors, *plan.gateways)} == {
            "kafka:1"
        }
        assert {after(program.command, "--namespace") for program in (*plan.processors, *plan.gateways)} == {"n."}


def test_every_program_ends_with_the_supervisor() -> None:
    plan = make_plan(settings(), Wanted(["m:a"], gateways=2, processors=2))
    programs = [program for step in plan.start_order for program in step]
    assert len(programs) == 5
    assert all("--exit-with-parent" in program.command for program in programs)


def test_gateways_differ_in_name_and_ports() -> None:
    plan = make_plan(settings(instance="here"), Wanted(["m:a"], gateways=2))
    assert [after(gateway.command, "--instance") for gateway in plan.gateways] == ["here-1", "here-2"]
    pairs = [(after(gateway.command, "--port"), after(gateway.command, "--admin-port")) for gateway in plan.gateways]
    assert pairs == [("8080", "8081"), ("8082", "8083")]


def test_a_single_gateway_keeps_the_instance_name_as_it_is() -> None:
    (gateway,) = make_plan(settings(instance="here"), Wanted(["m:a"])).gateways
    assert after(gateway.command, "--instance") == "here"


def test_they_stop_gateways_first_and_the_broker_last() -> None:
    plan = make_plan(settings(), Wanted(["m:a"], gateways=2, processors=2))
    stopped = [[program.name for program in step] for step in plan.stop_order]
    assert stopped == [["gateway-1", "gateway-2"], ["processor-1", "processor-2"], ["broker"]]


def test_services_are_killed_only_after_the_time_that_their_settings_give_them() -> None:
    plan = make_plan(settings(shutdown_grace=7, drain=11), Wanted(["m:a"]))
    assert plan.gateways[0].stop_within == 7 + 15
    assert plan.processors[0].stop_within == 11 + 15
    assert plan.gateways[0].hurry_within > 1, "it has answers to send"


def test_each_app_gets_processors_of_its_own_that_are_named_after_it() -> None:
    plan = make_plan(settings(), Wanted(["greetings", "shop.api:app", "shop.api:other"], processors=2))
    assert {processor.name: list(processor.command)[5] for processor in plan.processors} == {
        "processor-greetings-1": "greetings",
        "processor-greetings-2": "greetings",
        "processor-shop.api-1": "shop.api:app",
        "processor-shop.api-2": "shop.api:app",
        "processor-shop.api:other-1": "shop.api:other",
        "processor-shop.api:other-2": "shop.api:other",
    }


@pytest.mark.parametrize("apps", [["m", "m"], ["m", "n", "m:app"]])
def test_an_app_that_is_named_twice_is_refused(apps: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="app 'm' is named twice"):
        make_plan(settings(), Wanted(apps))


@pytest.mark.parametrize(
    ("host", "there"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3")],  # noqa: S104
)
def test_an_address_is_one_that_a_person_can_open(host: str, there: str) -> None:
    assert url(host, 8080) == f"http://{there}:8080"


@pytest.mark.parametrize(
    ("first", "first_admin", "gateways"),
    [
        (8080, 8081, 1),
        (8080, 8081, 5),
        (8081, 8080, 3),
        (8080, 8082, 2),
        (8080, 8082, 3),
        (8080, 8086, 4),
        (80, 9000, 9),
    ],
)
def test_no_two_gateways_share_a_port(first: int, first_admin: int, gateways: int) -> None:
    pairs = ports(settings(http_port=first, admin_port=first_admin), gateways)
    assert pairs[0] == (first, first_admin)
    assert len({port for pair in pairs for port in pair}) == 2 * gateways


def test_ports_are_consecutive_where_the_two_rows_do_not_meet() -> None:
    assert ports(settings(http_port=80, admin_port=9000), 3) == [(80, 9000), (81, 9001), (82, 9002)]


def test_ports_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="http_port and admin_port are both 8080"):
        ports(settings(http_port=8080, admin_port=8080), 1)
    with pytest.raises(ConfigurationError, match="would need port 65536"):
        ports(settings(http_port=8080, admin_port=65535), 2)
