"""All settings, read once from the environment.

Trunkline's own carry the prefix ``TRUNKLINE_``; a vendor's keep the vendor's name. Nothing that is
a secret or a URL has a default: a missing one stops the process at start, by name.
"""

from __future__ import annotations

import ipaddress
import os
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker import safety

#: Signalling addresses of Twilio Elastic SIP Trunking, all regions:
#: https://www.twilio.com/docs/sip-trunking/ip-addresses
TWILIO_SIGNALLING: Final = (
    "54.172.60.0/30",
    "54.244.51.0/30",
    "54.171.127.192/30",
    "35.156.191.128/30",
    "54.65.63.192/30",
    "54.169.127.128/30",
    "54.252.254.64/30",
    "177.71.206.192/30",
)


#: Signalling addresses of Telnyx, all regions: https://sip.telnyx.com
TELNYX_SIGNALLING: Final = (
    "192.76.120.10",
    "64.16.250.10",
    "185.246.41.140",
    "185.246.41.141",
    "103.115.244.145",
    "103.115.244.146",
    "192.76.120.31",
    "64.16.250.13",
)
_SHORTEST_SECRET: Final = 32
#: Longer than beat and a worker take to start again.
_SWEEP_LATE_SECONDS: Final = 30.0
#: The widest that there is: 10.0.0.0/8, fd00::/8.
_WIDEST_OWN_NETWORK: Final = 8
#: Half of one worker's threads.
ORGANIZATION_CONCURRENCY: Final = 16


class Environment(StrEnum):
    """Where this runs; production refuses unsafe settings."""

    PRODUCTION = "production"
    DEVELOPMENT = "development"


def _vendor(name: str) -> AliasChoices:
    """A setting that keeps the vendor's name: no prefix of ours."""
    return AliasChoices(name)


def _split(value: object) -> object:
    """Lists are given with commas, as operators write them."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _is_production(info: ValidationInfo) -> bool:
    # An environment that is none was refused itself; the rest is held to the stricter one.
    return info.data.get("env") is not Environment.DEVELOPMENT


def _trusted(info: ValidationInfo) -> tuple[str, ...]:
    found: tuple[str, ...] = info.data.get("trusted_hosts", ())
    return found


def _refuse(name: str, fault: str | None) -> None:
    if fault is not None:
        raise ValueError(f"{name} {fault}")


#: Where another than the vendor itself may be called.
VENDOR_URLS: Final = (
    "twilio_api_base_url",
    "twilio_trunking_base_url",
    "twilio_numbers_base_url",
    "twilio_messaging_base_url",
    "twilio_routes_base_url",
    "telnyx_api_base_url",
    "plivo_api_base_url",
)


class Settings(BaseSettings):
    """What an operator may set; README and deploy/.env.example explain each."""

    model_config = SettingsConfigDict(
        env_prefix="TRUNKLINE_", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    # These two come first: the rest is held against them.
    env: Environment = Environment.PRODUCTION
    #: Hosts, and networks, that are reached over a private network: production demands TLS, and a
    #: broker's password, of all others but this machine.
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    #: postgresql://user:password@host:port/database
    database_url: SecretStr
    #: redis://:password@host:port/0 or rediss://
    broker_url: SecretStr
    #: Fernet keys, comma-separated; the first encrypts, all decrypt (`trunkline keys rotate`).
    vault_keys: Annotated[tuple[SecretStr, ...], NoDecode] = Field(min_length=1)
    #: Where providers reach our callbacks, such as https://voice.example.com.
    public_base_url: str

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    #: "json" for machines, "console" for people.
    log_format: Literal["json", "console"] = "json"

    #: A step's claim on its job; a dead worker's job is taken over when it has run out.
    lease_seconds: float = Field(default=8.5, gt=0)
    #: How often a living worker renews its leases; several beats must fit into one lease.
    heartbeat_seconds: float = Field(default=1.0, gt=0)
    #: Limits of one outside call; together they must fit into what a heartbeat leaves of a lease.
    connect_timeout_seconds: float = Field(default=2.0, gt=0)
    read_timeout_seconds: float = Field(default=5.0, gt=0)
    #: How long a write whose answer was lost may still land: looking again waits this long.
    settle_seconds: float = Field(default=5.0, ge=0)
    #: How often lost jobs are looked for.
    sweep_seconds: float = Field(default=1.0, gt=0)
    #: A sent message that no worker has taken after this long counts as lost.
    resend_after_seconds: float = Field(default=5.0, gt=0)
    #: A worker that has begun no task for this long, though the broker answers and a thread is
    #: free, ends with an exit code that is not 0, for its supervisor to start it again.
    stall_seconds: float = Field(default=45.0, ge=5)
    #: A file that a worker touches every ninth of that while it is well, for probes from outside.
    pulse_file: Path | None = None
    #: Where a worker, or beat, tells Prometheus what it counts; none by default, since two of one
    #: machine would both want it. The API tells it at /metrics.
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    #: The address of this machine to listen on there: by default nobody else can ask.
    metrics_host: str = "127.0.0.1"
    #: Where traces go, by OTLP over HTTP; OpenTelemetry reads its other variables itself.
    otlp_endpoint: str | None = Field(
        default=None, validation_alias=_vendor("OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    #: Scales every retry delay; 1 in production, small in tests that wait for retries.
    retry_scale: float = Field(default=1.0, gt=0)

    #: How many jobs of one organisation are under way at a time; more are held until one ends. Half
    #: of the workers' threads lets one organisation use them well and leaves some to the others.
    organization_concurrency: int = Field(default=ORGANIZATION_CONCURRENCY, ge=1)
    #: How many jobs of one provider account a batch keeps going at a time, others included.
    #: An import that comes alone never waits for that: it counts, and the batch gives way.
    account_concurrency: int = Field(default=8, ge=1)

    #: How often each number is compared with what it should be; 0 leaves that to its owners.
    check_seconds: float = Field(default=21600.0, ge=0)
    #: How long a call rings at LiveKit before the fallback agent or the voicemail takes it.
    ring_seconds: int = Field(default=25, ge=5, le=60)
    #: For development: callback URLs may be http and on loopback.
    notify_loopback: bool = False
    #: Whether an import calls its own public voice URL before a live number is sent there.
    self_test: bool = True
    #: Where that call connects instead of to the public name: the public address may not be
    #: reachable from inside.
    self_test_base_url: str | None = None

    #: How many requests a minute one API key may send: those that start a job (imports and
    #: dialects', releases, changes, retries), batches, and those that ask a vendor meanwhile
    #: (preflights, checks, an account's numbers). 0 sets no limit.
    imports_per_minute: int = Field(default=600, ge=0)
    batches_per_minute: int = Field(default=20, ge=0)
    looks_per_minute: int = Field(default=120, ge=0)

    #: How long a dialect's request waits for its import; its answer is 202 if that takes longer.
    dialect_wait_seconds: float = Field(default=25.0, ge=0, le=60)
    #: What callers of the Ravan dialect are told a minute costs, in cents; nothing is charged.
    price_per_minute_inbound: int = Field(default=0, ge=0)
    price_per_minute_outbound: int = Field(default=0, ge=0)

    #: Connections a process keeps to Postgres, and how many more it may open under load.
    database_pool_size: int = Field(default=10, ge=1)
    database_max_overflow: int = Field(default=20, ge=0)

    twilio_signalling_addresses: Annotated[tuple[str, ...], NoDecode] = TWILIO_SIGNALLING
    telnyx_signalling_addresses: Annotated[tuple[str, ...], NoDecode] = TELNYX_SIGNALLING
    #: Whether a SIP address that an import brings must be in the DNS.
    sip_dns_check: bool = False
    #: Networks of your own that such an address may lead to; LiveKit dials it.
    sip_private_networks: Annotated[tuple[str, ...], NoDecode] = ()

    livekit_url: str = Field(validation_alias=_vendor("LIVEKIT_URL"))
    livekit_api_key: str = Field(validation_alias=_vendor("LIVEKIT_API_KEY"))
    livekit_api_secret: SecretStr = Field(validation_alias=_vendor("LIVEKIT_API_SECRET"))
    #: The project's SIP URI, such as sip:abc123.sip.livekit.cloud; not derivable from the URL.
    livekit_sip_uri: str = Field(validation_alias=_vendor("LIVEKIT_SIP_URI"))

    #: Unset, these are the vendor's own.
    twilio_api_base_url: str | None = Field(
        default=None, validation_alias=_vendor("TWILIO_API_BASE_URL")
    )
    twilio_trunking_base_url: str | None = Field(
        default=None, validation_alias=_vendor("TWILIO_TRUNKING_BASE_URL")
    )
    #: The three that a preflight asks beside them.
    twilio_numbers_base_url: str | None = Field(
        default=None, validation_alias=_vendor("TWILIO_NUMBERS_BASE_URL")
    )
    twilio_messaging_base_url: str | None = Field(
        default=None, validation_alias=_vendor("TWILIO_MESSAGING_BASE_URL")
    )
    twilio_routes_base_url: str | None = Field(
        default=None, validation_alias=_vendor("TWILIO_ROUTES_BASE_URL")
    )
    telnyx_api_base_url: str | None = Field(
        default=None, validation_alias=_vendor("TELNYX_API_BASE_URL")
    )
    plivo_api_base_url: str | None = Field(
        default=None, validation_alias=_vendor("PLIVO_API_BASE_URL")
    )
    #: The platform's own SIP termination, for imports that bring none; all three or none.
    twilio_trunk_address: str | None = Field(
        default=None, validation_alias=_vendor("TWILIO_TRUNK_ADDRESS")
    )
    twilio_sip_username: str | None = Field(
        default=None, validation_alias=_vendor("TWILIO_SIP_USERNAME")
    )
    twilio_sip_password: SecretStr | None = Field(
        default=None, validation_alias=_vendor("TWILIO_SIP_PASSWORD")
    )
    telnyx_trunk_address: str | None = Field(
        default=None, validation_alias=_vendor("TELNYX_TRUNK_ADDRESS")
    )
    telnyx_sip_username: str | None = Field(
        default=None, validation_alias=_vendor("TELNYX_SIP_USERNAME")
    )
    telnyx_sip_password: SecretStr | None = Field(
        default=None, validation_alias=_vendor("TELNYX_SIP_PASSWORD")
    )
    plivo_trunk_address: str | None = Field(
        default=None, validation_alias=_vendor("PLIVO_TRUNK_ADDRESS")
    )
    plivo_sip_username: str | None = Field(
        default=None, validation_alias=_vendor("PLIVO_SIP_USERNAME")
    )
    plivo_sip_password: SecretStr | None = Field(
        default=None, validation_alias=_vendor("PLIVO_SIP_PASSWORD")
    )
    sip_trunk_address: str | None = Field(
        default=None, validation_alias=_vendor("SIP_TRUNK_ADDRESS")
    )
    sip_sip_username: str | None = Field(default=None, validation_alias=_vendor("SIP_SIP_USERNAME"))
    sip_sip_password: SecretStr | None = Field(
        default=None, validation_alias=_vendor("SIP_SIP_PASSWORD")
    )

    _lists = field_validator(
        "trusted_hosts",
        "vault_keys",
        "twilio_signalling_addresses",
        "telnyx_signalling_addresses",
        "sip_private_networks",
        mode="before",
    )(_split)

    @field_validator("public_base_url", "self_test_base_url")
    @classmethod
    def _no_trailing_slash(cls, value: str | None) -> str | None:
        return value and value.rstrip("/")

    @field_validator("self_test_base_url", "otlp_endpoint", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("self_test_base_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("TRUNKLINE_SELF_TEST_BASE_URL must be http:// or https://")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _in_capitals(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("livekit_api_secret")
    @classmethod
    def _is_long_enough(cls, value: SecretStr) -> SecretStr:
        # It signs HS256 tokens: https://www.rfc-editor.org/rfc/rfc7518#section-3.2
        if len(value.get_secret_value()) < _SHORTEST_SECRET:
            raise ValueError(f"LIVEKIT_API_SECRET must have at least {_SHORTEST_SECRET} characters")
        return value

    # What production refuses. Each stands at its own field, so that all are told at once.

    @field_validator("database_url")
    @classmethod
    def _database_is_safe(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if _is_production(info):
            fault = safety.database_fault(value.get_secret_value(), _trusted(info), os.environ)
            _refuse("TRUNKLINE_DATABASE_URL", fault)
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker_is_safe(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if _is_production(info):
            fault = safety.broker_fault(value.get_secret_value(), _trusted(info))
            _refuse("TRUNKLINE_BROKER_URL", fault)
        return value

    @field_validator("vault_keys")
    @classmethod
    def _keys_are_random(
        cls, value: tuple[SecretStr, ...], info: ValidationInfo
    ) -> tuple[SecretStr, ...]:
        if _is_production(info):
            for key in value:
                _refuse("TRUNKLINE_VAULT_KEYS", safety.vault_key_fault(key.get_secret_value()))
        return value

    @field_validator("public_base_url")
    @classmethod
    def _public_url_is_safe(cls, value: str, info: ValidationInfo) -> str:
        if _is_production(info):
            # No host is trusted here: calls and messages come in over the internet.
            fault = safety.web_fault(value, None, schemes=("https",))
            _refuse("TRUNKLINE_PUBLIC_BASE_URL", fault)
        return value

    @field_validator("self_test_base_url")
    @classmethod
    def _self_test_is_safe(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and _is_production(info):
            fault = safety.web_fault(value, _trusted(info), schemes=("https",))
            _refuse("TRUNKLINE_SELF_TEST_BASE_URL", fault)
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _collector_is_safe(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and _is_production(info):
            # A collector's token may go along.
            fault = safety.web_fault(value, _trusted(info), schemes=("https",))
            _refuse("OTEL_EXPORTER_OTLP_ENDPOINT", fault)
        return value

    @field_validator("livekit_url")
    @classmethod
    def _livekit_is_safe(cls, value: str, info: ValidationInfo) -> str:
        if _is_production(info):
            fault = safety.web_fault(value, _trusted(info), schemes=("wss", "https"))
            _refuse("LIVEKIT_URL", fault)
        return value

    @field_validator("livekit_api_key")
    @classmethod
    def _livekit_key_is_real(cls, value: str, info: ValidationInfo) -> str:
        if _is_production(info) and safety.secret_fault(value) is not None:
            raise ValueError("LIVEKIT_API_KEY is one of an example; take the project's own")
        return value

    @field_validator("livekit_api_secret")
    @classmethod
    def _livekit_secret_is_random(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if _is_production(info):
            fault = safety.secret_fault(value.get_secret_value(), shortest=_SHORTEST_SECRET)
            _refuse("LIVEKIT_API_SECRET", fault)
        return value

    @field_validator("notify_loopback")
    @classmethod
    def _nobody_is_called_here(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 -- pydantic's signature
        if value and _is_production(info):
            raise ValueError("TRUNKLINE_NOTIFY_LOOPBACK is for development only")
        return value

    @field_validator(*VENDOR_URLS)
    @classmethod
    def _vendor_is_safe(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and _is_production(info):
            assert info.field_name is not None
            name = info.field_name.upper()
            _refuse(name, safety.web_fault(value, None, schemes=("https",)))
            if safety.is_this_machine(value):
                raise ValueError(f"{name} must not lead to this machine in production")
        return value

    @field_validator("livekit_sip_uri")
    @classmethod
    def _is_sip_uri(cls, value: str) -> str:
        if not value.startswith("sip:") or ";" in value or "@" in value:
            raise ValueError("LIVEKIT_SIP_URI must look like sip:PROJECT.sip.livekit.cloud")
        return value

    @field_validator("sip_private_networks")
    @classmethod
    def _are_narrow_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            if ipaddress.ip_network(network).prefixlen < _WIDEST_OWN_NETWORK:
                raise ValueError(f"a network of your own is /{_WIDEST_OWN_NETWORK} or narrower")
        return value

    @field_validator("twilio_signalling_addresses", "telnyx_signalling_addresses")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if ipaddress.ip_network(address).prefixlen == 0:
                raise ValueError("an allowed address of /0 opens the trunk to the whole internet")
        return value

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        call = self.connect_timeout_seconds + self.read_timeout_seconds
        if self.lease_seconds - self.heartbeat_seconds < call:
            raise ValueError(
                f"lease_seconds - heartbeat_seconds must be at least connect_timeout_seconds + "
                f"read_timeout_seconds ({call:g}), or a call could outlive its lease"
            )
        return self

    def platform_sip(self, provider: str) -> tuple[str | None, str | None, SecretStr | None]:
        """Returns the platform's own SIP termination at a provider: address, user, password."""
        return (
            getattr(self, f"{provider}_trunk_address"),
            getattr(self, f"{provider}_sip_username"),
            getattr(self, f"{provider}_sip_password"),
        )

    def signalling_addresses(self, provider: str) -> tuple[str, ...]:
        """Returns the addresses that a provider's SIP signalling comes from; () if unknown."""
        found: tuple[str, ...] = getattr(self, f"{provider}_signalling_addresses", ())
        return found

    @property
    def call_seconds(self) -> float:
        """The longest that one outside call may take."""
        return self.connect_timeout_seconds + self.read_timeout_seconds

    @property
    def livekit_sip_host(self) -> str:
        """The LiveKit SIP endpoint without its scheme, as carriers want it."""
        return self.livekit_sip_uri.removeprefix("sip:")


def late_sweep(settings: Settings, age_seconds: float) -> str | None:
    """Says what is wrong if no sweep has run for so long that beat or every worker is away."""
    if age_seconds <= max(_SWEEP_LATE_SECONDS, 10 * settings.sweep_seconds):
        return None
    return f"none for {age_seconds:.0f} s; beat and at least one worker must run"


@lru_cache(maxsize=1)
def load() -> Settings:
    """Reads the environment once a process.

    Raises:
        pydantic.ValidationError: names each setting that is missing or unsafe.
    """
    return Settings()
