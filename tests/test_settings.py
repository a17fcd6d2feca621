"""Settings: where they come from, which source wins, and what is said of those that cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import ConfigurationError
from forebay.settings import Settings, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def _nothing_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no file but those that a test makes."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FOREBAY_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def toml(text: str) -> None:
    Path("forebay.toml").write_text(text, encoding="utf-8")


def complaint(config: Path | None = None, **flags: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, **flags)
    return str(caught.value)


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings()
    assert (settings.namespace, settings.http_port, settings.admin_port) == ("forebay.", 8080, 8081)
    assert settings.brokers == "127.0.0.1:9092"


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    toml("http_port = 1001\nadmin_port = 1002\nbroker_port = 1003\n")
    monkeypatch.setenv("FOREBAY_HTTP_PORT", "2001")
    monkeypatch.setenv("FOREBAY_ADMIN_PORT", "2002")
    settings = load_settings(http_port=3001)
    assert (settings.http_port, settings.admin_port, settings.broker_port) == (3001, 2002, 1003)
    assert settings.slots == 16


def test_a_flag_that_was_not_given_and_a_variable_that_is_empty_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    toml("http_port = 1001\nslots = 3\n")
    monkeypatch.setenv("FOREBAY_HTTP_PORT", "")
    settings = load_settings(http_port=None, slots=None)
    assert (settings.http_port, settings.slots) == (1001, 3)


def test_another_file_may_be_named(tmp_path: Path) -> None:
    toml("slots = 3\n")
    other = tmp_path / "other.toml"
    other.write_text("slots = 5\n")
    assert load_settings(other).slots == 5


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none.toml") == f"there is no file {tmp_path / 'none.toml'} to read settings from"


def test_a_given_cluster_takes_the_place_of_the_embedded_broker() -> None:
    assert load_settings(bootstrap_servers="a:1,b:2", broker_port=9999).brokers == "a:1,b:2"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().slots = 4


def test_every_default_instance_name_is_one_that_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host.example.org")
    instance = load_settings().instance
    assert instance == "host-example-org-8080"
    assert load_settings(instance=instance).instance == instance


def test_the_default_instance_name_is_unique_on_one_host_and_the_same_at_each_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 200)
    names = [load_settings(http_port=port).instance for port in (8080, 65535, 8080)]
    assert names[0] == names[2] != names[1]
    assert load_settings(instance=names[1]).instance == names[1]


def test_a_wrong_port_is_said_to_be_wrong_and_nothing_else_is() -> None:
    assert complaint(http_port=0).count("setting ") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"http_port": 0}, "setting http_port = 0: should be greater than or equal to 1"),
        ({"admin_port": 65536}, "setting admin_port = 65536: should be less than or equal to 65535"),
        ({"trace_ratio": 1.5}, "setting trace_ratio = 1.5: should be less than or equal to 1"),
        ({"drain": 0}, "setting drain = 0: should be greater than 0"),
        ({"drain": float("inf")}, "setting drain = inf: should be a finite number"),
        ({"session_timeout": float("nan")}, "setting session_timeout = nan: should be a finite number"),
        ({"slots": "many"}, "setting slots = 'many': should be a valid integer, unable to parse string as an integer"),
        ({"namespace": "shop"}, "setting namespace = 'shop': must end with '.', '_' or '-'"),
        ({"namespace": "my shop."}, "setting namespace = 'my shop.': String should match pattern"),
        ({"instance": "a.b"}, "setting instance = 'a.b': String should match pattern"),
        ({"security_protocol": "TLS"}, "setting security_protocol = 'TLS': should be 'PLAINTEXT', 'SSL'"),
        ({"ssl_cafile": "none.pem"}, "setting ssl_cafile = 'none.pem': there is no such file"),
        ({"ssl_certfile": "."}, "setting ssl_certfile = '.': there is no such file"),
        (
            {"security_protocol": "SASL_SSL", "sasl_username": "app"},
            "setting security_protocol = 'SASL_SSL' with sasl_mechanism = 'PLAIN' needs sasl_username",
        ),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "GSSAPI"},
            "setting sasl_mechanism = 'GSSAPI' needs the Python package gssapi, which is not installed",
        ),
    ],
)
def test_a_complaint_names_the_setting_its_value_and_what_it_takes(flags: dict[str, Any], said: str) -> None:
    assert complaint(**flags).startswith(said)


def test_every_setting_that_is_wrong_is_named_at_once() -> None:
    said = complaint(http_port=0, slots=0)
    assert "http_port = 0" in said
    assert "slots = 0" in said
    assert "\n" not in said


def test_a_complaint_says_which_variable_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HTTP_PORT", "70000")
    assert "setting http_port = '70000' (FOREBAY_HTTP_PORT): " in complaint()


def test_a_variable_is_not_blamed_for_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_HTTP_PORT", "8080")
    assert "FOREBAY_HTTP_PORT" not in complaint(http_port=0)


def test_a_setting_that_does_not_exist_is_refused_with_its_file() -> None:
    toml("http_prot = 8080\n")
    assert complaint() == "forebay.toml: there is no setting 'http_prot'; is 'http_port' meant?"


@pytest.mark.parametrize("text", ["http_port = ", "slots = 3\nslots = 4\n", "\x00"])
def test_a_file_that_is_not_toml_is_named(text: str) -> None:
    toml(text)
    said = complaint()
    assert "forebay.toml" in said
    assert "\n" not in said


def test_a_body_must_leave_room_for_the_rest_of_its_message() -> None:
    assert complaint(max_body_bytes=8_388_608) == (
        "setting max_body_bytes = 8388608 leaves no room for the rest of a message: "
        "at most max_message_bytes - 64 KiB = 8323072"
    )


def test_a_key_goes_with_a_certificate(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.touch()
    said = complaint(ssl_keyfile=key)
    assert said == "setting ssl_keyfile is the key of a certificate: set ssl_certfile too"


def test_who_says_its_name_and_password_is_let_in() -> None:
    settings = load_settings(security_protocol="SASL_SSL", sasl_username="app", sasl_password=SECRET)
    assert settings.security_protocol == "SASL_SSL"


SECRET = "correct-horse"  # noqa: S105 - the one that must not be shown


@pytest.mark.parametrize(
    "wrong",
    [{}, {"http_port": 0}, {"max_body_bytes": 80_000_000}, {"no_such": 1}, {"sasl_mechanism": "X"}],
    ids=lambda wrong: next(iter(wrong), "the password"),
)
@pytest.mark.parametrize("source", ["flag", "variable", "file"])
def test_a_password_is_never_shown(source: str, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    flags: dict[str, Any] = dict(wrong)
    password: object = SECRET if wrong else [SECRET]
    if source == "flag":
        flags["sasl_password"] = password
    elif source == "variable":
        monkeypatch.setenv("FOREBAY_SASL_PASSWORD", SECRET)
        flags = flags or {"http_port": 0}
    else:
        toml(f'sasl_password = ["{SECRET}"]\n' if not wrong else f'sasl_password = "{SECRET}"\n')
    assert SECRET not in complaint(**flags)


def test_a_password_is_hidden_where_settings_are_printed() -> None:
    settings = load_settings(sasl_password=SECRET)
    assert settings.sasl_password is not None
    assert settings.sasl_password.get_secret_value() == SECRET
    assert SECRET not in f"{settings!r} {settings}"


@given(st.from_regex(r"\A[A-Za-z0-9._-]{0,79}[._-]\Z"))
def test_any_prefix_that_topics_may_have_is_a_namespace(namespace: str) -> None:
    assert load_settings(namespace=namespace).namespace == namespace


@given(st.text(max_size=90))
def test_no_namespace_breaks_the_name_of_a_topic(namespace: str) -> None:
    try:
        settings = load_settings(namespace=namespace)
    except ConfigurationError:
        return
    assert all(character.isascii() and (character.isalnum() or character in "._-") for character in settings.namespace)
    assert len(settings.namespace) <= 80


KUBERNETES = {
    "FOREBAY_SERVICE_HOST": "10.0.0.1",
    "FOREBAY_SERVICE_PORT": "8080",
    "FOREBAY_SERVICE_PORT_HTTP": "8080",
    "FOREBAY_PORT": "tcp://10.0.0.1:8080",
    "FOREBAY_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "FOREBAY_PORT_8080_TCP_PROTO": "tcp",
    "FOREBAY_PORT_8080_TCP_PORT": "8080",
    "FOREBAY_PORT_8080_TCP_ADDR": "10.0.0.1",
    "FOREBAY_GATEWAY_SERVICE_HOST": "10.0.0.2",
    "FOREBAY_GATEWAY_PORT": "tcp://10.0.0.2:80",
    "FOREBAY_HTTP_PORT": "tcp://10.0.0.3:80",
    "FOREBAY_BROKER_PORT": "udp://[fd00::1]:9092",
    "FOREBAY_BROKER_PORT_9092_UDP_ADDR": "fd00::1",
}


def test_what_kubernetes_sets_for_services_named_forebay_is_neither_a_setting_nor_misspelt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert unknown_variables(KUBERNETES) == {}
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert (settings.http_port, settings.broker_port) == (8080, 9092)


def test_every_setting_is_known_in_either_case() -> None:
    names = [f"FOREBAY_{name.upper()}" for name in Settings.model_fields]
    assert unknown_variables(dict.fromkeys([*names, *map(str.lower, names)], "1")) == {}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("FOREBAY_SLOT", "FOREBAY_SLOTS"),
        ("FOREBAY_BOOTSTRAP_SERVER", "FOREBAY_BOOTSTRAP_SERVERS"),
        ("FOREBAY_HTTP_PRT", "FOREBAY_HTTP_PORT"),
        ("forebay_namespce", "FOREBAY_NAMESPACE"),
        ("FOREBAY_PORT", None),
        ("FOREBAY_COLOUR_OF_THE_SKY", None),
    ],
)
def test_a_misspelt_variable_is_found_with_what_is_meant(name: str, near: str | None) -> None:
    found = unknown_variables({name: "1", "PATH": "/bin", "FOREBAY_SLOTS": "3", "FOREBAY_PARENT_PID": "17"})
    assert found == {name: near} or (near is None and list(found) == [name])


@pytest.mark.parametrize("address", ["a:b", "a:0", "a:70000", ":9092", "a:1,", "a b:1", "a:1:x,", "[::1]:"])
def test_an_address_that_is_none_is_refused_with_what_it_takes(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no address of a broker: it takes host:port"):
        load_settings(bootstrap_servers=address)


@pytest.mark.parametrize("address", ["", "a", "a:1,b:2", "[::1]:9092", "::1"])
def test_an_address_may_be_a_name_or_a_number_with_a_port_or_without(address: str) -> None:
    assert load_settings(bootstrap_servers=address).bootstrap_servers == address


def test_spaces_between_addresses_do_not_count() -> None:
    assert load_settings(bootstrap_servers="a:1, b:2").bootstrap_servers == "a:1,b:2"
