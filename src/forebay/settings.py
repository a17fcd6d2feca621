"""Settings: flags, then ``FOREBAY_*`` variables, then ``forebay.toml``, then the defaults below.

They are read and checked together, once, before the first connection; a message names the setting, its value and what
it takes.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from forebay.errors import ConfigurationError
from forebay_schemas import request_ids

TIERS = ("interactive", "standard", "bulk")
"""The lanes of the queue, the most urgent first."""

_LONGEST_HOST = 70
"""Characters of the host's name that an instance's default name takes; a port follows."""

MIB = 1024 * 1024
LAST_PORT = 65535
"""The highest number of a port."""
Port = Annotated[int, Field(ge=1, le=LAST_PORT)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_PREFIX = "FOREBAY_"
_NO_SETTINGS = ("FOREBAY_PARENT_PID", "FOREBAY_TEST_")
"""How variables begin that are Forebay's and no settings: its supervisor's and its tests'."""
_NEAR = 0.75
"""How alike two names are, of 1, to be taken for the same name misspelt."""
_WITH_PORT = re.compile(r"^[^:]*:[^:]*$|\]:[^:]*$")
"""An address that names a port; one of IPv6 alone, which has several colons, does not."""
_KUBERNETES_NAME = re.compile(r"_SERVICE_(HOST|PORT(_.+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
_KUBERNETES_VALUE = re.compile(r"(tcp|udp|sctp)://")

_DISCONNECT_BOUND = 15.0
"""Seconds that a service may take to disconnect from a cluster that does not answer."""


class Settings(BaseSettings):
    """Everything that can be set, with its unit and default."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    bootstrap_servers: str = Field("", description="host:port[,…] of the Kafka cluster; empty: the embedded broker's")
    namespace: str = Field("forebay.", pattern=r"^[A-Za-z0-9._-]{1,80}$", description="prefix of every topic and group")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = Field(None, description="certificates to trust; default: the system's")
    ssl_certfile: Path | None = Field(None, description="certificate of this client")
    ssl_keyfile: Path | None = Field(None, description="key of that certificate")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None

    partitions: int = Field(12, ge=1, le=10_000, description="partitions of each job topic")
    max_message_bytes: int = Field(8 * MIB, ge=MIB, description="largest message of every topic")
    replication_factor: int = Field(-1, ge=-1, description="copies of each topic; -1: the cluster's default")

    http_host: str = Field("127.0.0.1", description="address of the API")
    http_port: Port = 8080
    instance: str = Field(
        "",
        validate_default=True,
        pattern=f"^{request_ids.INSTANCE_PATTERN}$",
        description="name of this gateway, different for each; it names the reply topic; default: host and http_port",
    )
    admin_host: str = Field("127.0.0.1", description="address of health and metrics")
    admin_port: Port = 8081
    max_body_bytes: int = Field(
        900_000, ge=1, description="largest request; the cluster's message.max.bytes must hold it"
    )
    head_timeout: Seconds = Field(10.0, description="seconds that the head of a request may take to arrive")
    body_timeout: Seconds = Field(
        30.0, description="seconds that its body may take after that, however steadily it comes"
    )
    shutdown_notice: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds a gateway goes on taking connections, no longer ready, after SIGTERM",
    )
    shutdown_grace: Seconds = Field(30.0, description="seconds a gateway goes on holding requests after SIGTERM")

    slots: int = Field(16, ge=1, description="jobs a processor runs at once")
    session_timeout: Seconds = Field(6.0, description="seconds after which a silent processor loses its partitions")
    poll_limit: Seconds = Field(30.0, description="seconds without fetching after which it gives them up itself")
    drain: Seconds = Field(20.0, description="seconds a processor goes on working after SIGTERM")

    broker_port: Port = 9092
    data_dir: Path = Path(".forebay")

    trace_ratio: float = Field(1.0, ge=0.0, le=1.0, description="share of the traces begun here that are recorded")

    toml_file: ClassVar[Path | None] = None

    @field_validator("instance", mode="before")
    @classmethod
    def _name_it_after_host_and_port(cls, value: Any, info: ValidationInfo) -> Any:
        if value != "":
            return value
        host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:_LONGEST_HOST] or "gateway"
        return f"{host}-{info.data.get('http_port', 0)}"

    @field_validator("bootstrap_servers")
    @classmethod
    def _name_hosts_and_ports(cls, value: str) -> str:
        addresses = [address.strip() for address in value.split(",")] if value else []
        for address in addresses:
            host, colon, port = address.rpartition(":") if _WITH_PORT.search(address) else (address, "", "")
            if not host or any(letter.isspace() for letter in host) or (colon and not _is_port(port)):
                raise ValueError(
                    f"'{address}' is no address of a broker: it takes host:port, several with commas between"
                )
        return ",".join(addresses)

    @field_validator("namespace")
    @classmethod
    def _check_separator(cls, value: str) -> str:
        if value[-1] not in "._-":
            raise ValueError("must end with '.', '_' or '-', so that it stands apart from the names it prefixes")
        return value

    @model_validator(mode="after")
    def _check_message_size(self) -> Self:
        if self.max_body_bytes > self.max_message_bytes - 64 * 1024:
            raise ValueError(
                f"max_body_bytes = {self.max_body_bytes} leaves no room for the rest of a message: "
                f"at most max_message_bytes - 64 KiB = {self.max_message_bytes - 64 * 1024}"
            )
        return self

    @field_validator("ssl_cafile", "ssl_certfile", "ssl_keyfile")
    @classmethod
    def _check_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("there is no such file")
        return value

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError("ssl_keyfile is the key of a certificate: set ssl_certfile too")
        if not self.security_protocol.startswith("SASL_"):
            return self
        if self.sasl_mechanism == "GSSAPI":
            if find_spec("gssapi") is None:
                raise ValueError("sasl_mechanism = 'GSSAPI' needs the Python package gssapi, which is not installed")
        elif self.sasl_username is None or self.sasl_password is None:
            raise ValueError(
                f"security_protocol = {self.security_protocol!r} with sasl_mechanism = {self.sasl_mechanism!r} "
                "needs sasl_username and sasl_password"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: flags, environment, file."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = {
                name: value for name, value in env_settings.env_vars.items() if not _is_of_kubernetes(name, value or "")
            }
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if cls.toml_file is not None:
            sources += (TomlConfigSettingsSource(settings_cls, cls.toml_file),)
        return sources

    @property
    def brokers(self) -> str:
        """``bootstrap_servers``, or the address of the embedded broker on this machine."""
        return self.bootstrap_servers or f"127.0.0.1:{self.broker_port}"

    @property
    def gateway_stop_bound(self) -> float:
        """Seconds after SIGTERM within which a gateway has ended: whoever stops it kills it after these."""
        return self.shutdown_notice + self.shutdown_grace + _DISCONNECT_BOUND

    @property
    def processor_stop_bound(self) -> float:
        """Seconds after SIGTERM within which a processor has ended: jobs and their replies get ``drain`` together."""
        return self.drain + _DISCONNECT_BOUND


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) <= LAST_PORT


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Find variables that look like settings and are none, most likely misspelt ones.

    Returns:
        The nearest variable that is a setting, if one is near, by the name of each.
    """
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(
        name
        for name, value in environment.items()
        if name.upper().startswith(_PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(_NO_SETTINGS)
        and not _is_of_kubernetes(name, value)
    )
    return {name: next(iter(get_close_matches(name.upper(), known, 1, _NEAR)), None) for name in unknown}


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes made this variable for a service whose name begins with ``forebay``.

    One for a service named ``forebay-http`` has the very name of our setting ``http_port``, but never a number in it.
    """
    return _KUBERNETES_NAME.search(name.upper()) is not None or _KUBERNETES_VALUE.match(value) is not None


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings.

    Args:
        config: the TOML file; default: ``forebay.toml`` here, if there is one.
        flags: settings given on the command line, which win. ``None`` means not given.

    Raises:
        ConfigurationError: a setting is unknown or out of its range, or the file cannot be read.
    """
    if config is not None and not config.is_file():
        raise ConfigurationError(f"there is no file {config} to read settings from")
    file = config or Path("forebay.toml")
    sources = type("Settings", (Settings,), {"toml_file": file if file.is_file() else None, "__module__": __name__})
    try:
        settings: Settings = sources(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise ConfigurationError("; ".join(_sentence(dict(entry), file, flags) for entry in error.errors())) from None
    except (TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None
    except (SettingsError, ValueError) as error:
        raise ConfigurationError(f"settings cannot be read: {error}") from None
    return settings


def _sentence(error: dict[str, Any], file: Path, flags: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, Settings.model_fields, 1, _NEAR)
        return f"{file}: there is no setting '{name}'" + (f"; is '{near[0]}' meant?" if near else "")
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not name:  # of several settings together, which the message names; the input is all of them, secrets included
        return f"setting {message}"
    shown = "" if "password" in name else f" = {error['input']!r}"
    variable = f"{_PREFIX}{name.upper()}"
    source = f" ({variable})" if variable in os.environ and flags.get(name) is None else ""
    return f"setting {name}{shown}{source}: {message}"
