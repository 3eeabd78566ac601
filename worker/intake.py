"""From what callers send to what a job keeps: the request's models, its checks, its secrets.

Nothing here knows the database; whose agent or credential it is, :mod:`worker.service` finds out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import (
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    ValidationError,
    field_validator,
)
from pydantic.alias_generators import to_camel

from worker.domain.errors import (
    InvalidRequest,
    SignaturesUnverifiable,
    SipLoginIncomplete,
    SipTrunkProvisionFailed,
)
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import (
    E164,
    MediaEncryption,
    Ownership,
    ProviderName,
    RoutingMode,
    SipTransport,
    parse_pin,
    require_one_line,
)
from worker.providers import PROVIDERS, Credentials
from worker.settings import Settings
from worker.sip_hosts import read_sip_address

_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_WIDEST_PREFIX: Final = 8
#: LiveKit and the carrier put it into a From header and, quoted, into a digest; what ends either
#: would begin a header of the customer's own: https://www.rfc-editor.org/rfc/rfc3261#section-25.1
_SIP_USERNAME: Final = re.compile(r"[!#-;=?-\[\]-~]+")


def _require_one_line(value: str | SecretStr | None) -> str | SecretStr | None:
    if value is not None:
        require_one_line(value if isinstance(value, str) else value.get_secret_value())
    return value


def _either_case(name: str) -> AliasChoices:
    # The first choice is the one that error messages and the API's schema show.
    return AliasChoices(name, to_camel(name))


class Input(BaseModel):
    """What callers send: unknown fields are refused, camelCase is accepted."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=_either_case),
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class SipSettings(Input):
    """The carrier's or the caller's own SIP trunk."""

    carrier: ProviderName | None = Field(
        default=None,
        description="Only with provider `sip`: the carrier, if it is `twilio`, `telnyx` or "
        "`plivo`. Calls from Twilio and Telnyx cannot log in, so the carrier's own signalling "
        "addresses are admitted instead, and the login is for outbound calls alone; what is left "
        "out of it is the platform's at that carrier.",
    )
    trunk_name: str | None = Field(default=None, max_length=64)
    address: str | None = Field(default=None, max_length=255, examples=["sip.example.com"])
    username: str | None = Field(default=None, min_length=1, max_length=255)
    password: SecretStr | None = Field(default=None, min_length=1, max_length=255)
    transport: SipTransport = SipTransport.AUTO
    media_encryption: MediaEncryption = MediaEncryption.ALLOW
    allowed_addresses: tuple[str, ...] = Field(default=(), max_length=64)

    _are_lines = field_validator("trunk_name", "username", "password")(_require_one_line)


class InboundSettings(Input):
    """What happens to inbound calls."""

    room_pattern: str = Field(default="call-", min_length=1, max_length=64)
    """Prefix of the LiveKit room that each call gets."""
    pin: SecretStr | None = Field(
        default=None,
        description="4 to 10 digits that a caller must type, followed by the hash key. Nothing but "
        "digits: no telephone can type the rest.",
    )
    fallback_agent_id: str | None = None
    voicemail_message: str | None = Field(default=None, max_length=1000)

    _are_lines = field_validator("room_pattern")(_require_one_line)


class ImportRequest(Input):
    """One import, as its caller asks for it."""

    phone_number: str = Field(examples=["+14155550100"])
    provider: ProviderName
    credential_id: str | None = None
    credentials: dict[str, Any] | None = Field(
        default=None, description="Inline credentials; their fields depend on the provider."
    )
    number_sid: str | None = Field(default=None, max_length=64)
    friendly_name: str | None = Field(default=None, max_length=64)
    agent_id: str | None = None
    user_id: str | None = None
    supports_inbound: StrictBool = Field(
        default=True, description="Whether calls to the number come to us."
    )
    supports_outbound: StrictBool = Field(
        default=True,
        description="Whether calls can be placed from the number. With neither calls nor SMS the "
        "number is only recorded: its ownership is proven, and nothing is set up or changed.",
    )
    routing_mode: RoutingMode | None = Field(
        default=None, description="`webhook`, where the provider knows it; a SIP carrier does not."
    )
    replace_existing_routing: StrictBool = False
    sip: SipSettings = SipSettings()
    inbound: InboundSettings = InboundSettings()
    sms_enabled: StrictBool = False
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    metadata: dict[str, Any] = Field(default_factory=dict)
    callback_url: SecretStr | None = Field(
        default=None,
        max_length=2048,
        description="Told, with a signature, when the import ends and what the number receives.",
    )

    _are_lines = field_validator("friendly_name")(_require_one_line)


class InboundChange(Input):
    """What of the inbound calls is to change; what is left out stays."""

    room_pattern: str | None = Field(default=None, min_length=1, max_length=64)
    pin: SecretStr | None = None
    fallback_agent_id: str | None = None
    voicemail_message: str | None = Field(default=None, max_length=1000)

    _are_lines = field_validator("room_pattern")(_require_one_line)


class SipLoginChange(Input):
    """Another login of the caller's own SIP trunk."""

    username: str = Field(min_length=1, max_length=255)
    password: SecretStr = Field(min_length=1, max_length=255)

    _are_lines = field_validator("username", "password")(_require_one_line)


class NumberChange(Input):
    """What of a number is to change: what is left out stays, null clears."""

    agent_id: str | None = None
    friendly_name: str | None = Field(default=None, max_length=64)
    inbound: InboundChange = InboundChange()
    sip: SipLoginChange | None = None
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    metadata: dict[str, Any] | None = None
    callback_url: SecretStr | None = Field(default=None, max_length=2048)

    _are_lines = field_validator("friendly_name")(_require_one_line)


def changed(
    change: NumberChange, spec: ImportSpec, kept: ImportSecrets
) -> tuple[ImportSpec, ImportSecrets]:
    """Returns what a number is to be after a change.

    Raises:
        InvalidRequest: the PIN is none, or a change of inbound calls is meant for a number without.
    """
    given, inbound = change.model_fields_set, change.inbound.model_fields_set
    if ("agent_id" in given or inbound) and not spec.supports_inbound:
        raise InvalidRequest("This number takes no inbound calls, so nothing of them can change.")
    values: dict[str, Any] = {
        name: getattr(change, name)
        for name in ("agent_id", "friendly_name", "price", "metadata")
        if name in given
    }
    for field, name in (
        ("room_pattern", "room_prefix"),
        ("fallback_agent_id", "fallback_agent_id"),
        ("voicemail_message", "voicemail_message"),
    ):
        if field in inbound:
            values[name] = getattr(change.inbound, field)
    if "metadata" in values:
        values["metadata"] = values["metadata"] or {}
    if "room_prefix" in values:
        values["room_prefix"] = values["room_prefix"] or InboundSettings().room_pattern
    hidden: dict[str, Any] = {}
    if "pin" in inbound:
        pin = change.inbound.pin
        hidden["pin"] = "" if pin is None else parse_pin(pin.get_secret_value())
    if change.sip is not None:
        hidden |= _changed_login(change.sip, spec, kept)
        if spec.carrier is not None and "username" in spec.carrier:
            values["carrier"] = {**spec.carrier, "username": change.sip.username}
    if "callback_url" in given:
        url = change.callback_url
        hidden["callback_url"] = None if url is None else url.get_secret_value()
    return replace(spec, **values), replace(kept, **hidden)


def _changed_login(login: SipLoginChange, spec: ImportSpec, kept: ImportSecrets) -> dict[str, str]:
    """What a new SIP login replaces: a carrier's is one for both directions."""
    username, password = login.username, login.password.get_secret_value()
    _require_plain_login(username, password)
    values: dict[str, str] = {}
    if kept.sip_username is not None:
        values |= {"sip_username": username, "sip_password": password}
    if spec.ownership is Ownership.ASSERTED and kept.inbound_username is not None:
        values |= {"inbound_username": username, "inbound_password": password}
    if not values:
        raise InvalidRequest("This number uses no SIP login of yours.")
    return values


def spec_of(request: ImportRequest, settings: Settings) -> ImportSpec:
    """Returns what a job keeps of a request; no secret is in it.

    Raises:
        PermanentError: the request asks for something that cannot be.
    """
    number = E164.parse(request.phone_number)
    adapter = PROVIDERS[request.provider]
    mode = request.routing_mode or _default_mode(adapter.modes)
    if mode not in adapter.modes:
        raise InvalidRequest(f"{request.provider} has no routing_mode {mode}.")
    shape = adapter.number_id_shape
    if request.number_sid is not None and not re.fullmatch(shape, request.number_sid):
        raise InvalidRequest(f"number_sid: {request.provider}'s ids of numbers look otherwise.")
    if request.inbound.pin is not None:
        parse_pin(request.inbound.pin.get_secret_value())
    _require_known_carrier(request)
    address = _sip_address(request, settings)
    transport = _transport(request, mode)
    if adapter.ownership is Ownership.ASSERTED:
        _require_carrier_settings(request, address, settings)
    spec = ImportSpec(
        phone_number=number,
        provider=request.provider,
        routing_mode=mode,
        ownership=adapter.ownership,
        number_sid=request.number_sid,
        friendly_name=request.friendly_name,
        agent_id=request.agent_id,
        user_id=request.user_id,
        supports_inbound=request.supports_inbound,
        supports_outbound=request.supports_outbound,
        replace_existing_routing=request.replace_existing_routing,
        sms_enabled=request.sms_enabled,
        sip_trunk_name=request.sip.trunk_name,
        sip_address=address,
        sip_transport=transport,
        media_encryption=request.sip.media_encryption,
        allowed_addresses=_networks(request.sip.allowed_addresses),
        room_prefix=request.inbound.room_pattern,
        fallback_agent_id=request.inbound.fallback_agent_id,
        voicemail_message=request.inbound.voicemail_message,
        price=request.price,
        metadata=request.metadata,
        sip_carrier=request.sip.carrier,
    )
    if adapter.ownership is Ownership.PROVEN or spec.records_only:
        return spec
    return replace(spec, carrier=_carrier(request, settings))


def _require_known_carrier(request: ImportRequest) -> None:
    carrier = request.sip.carrier
    if carrier is not None and request.provider is not ProviderName.SIP:
        raise InvalidRequest("sip.carrier is for provider sip; the others are their own carrier.")
    if carrier is ProviderName.SIP:
        raise InvalidRequest("sip.carrier: twilio, telnyx or plivo; leave it out for any other.")


def _carrier_of(request: ImportRequest) -> ProviderName:
    """Whose SIP network the number's calls come through."""
    return request.sip.carrier or request.provider


def _answers_challenge(request: ImportRequest) -> bool:
    """Whether the calls that a SIP carrier sends can log in at LiveKit."""
    return RoutingMode.SIP_TRUNK in PROVIDERS[_carrier_of(request)].authenticating_modes


def _transport(request: ImportRequest, mode: RoutingMode) -> SipTransport:
    """Returns the transport of signalling; with encrypted media it must be encrypted as well.

    The keys of SRTP travel in the signalling: https://www.rfc-editor.org/rfc/rfc4568#section-7.1.1

    Raises:
        InvalidRequest: calls of this import could never be encrypted.
    """
    sip = request.sip
    if sip.media_encryption is not MediaEncryption.REQUIRE:
        return sip.transport
    if request.supports_inbound:
        if mode is RoutingMode.WEBHOOK:
            raise InvalidRequest(
                "media_encryption require needs routing_mode sip_trunk: a call that a voice "
                "webhook sends on comes without encrypted media."
            )
        if _carrier_of(request) is ProviderName.TELNYX:
            # Its connections offer TLS or SRTP, not both; without TLS the keys would be read.
            raise InvalidRequest(
                "Telnyx cannot bring calls with encrypted signalling and media. Use "
                "media_encryption allow."
            )
    if sip.transport not in (SipTransport.AUTO, SipTransport.TLS):
        raise InvalidRequest("media_encryption require needs sip.transport tls.")
    return SipTransport.TLS


def _require_carrier_settings(
    request: ImportRequest, address: str | None, settings: Settings
) -> None:
    """A carrier cannot be asked for anything, so the import must bring it."""
    has_login = request.sip.username is not None or _is_platforms(request, address, settings)
    if request.supports_outbound and (address is None or not has_login):
        raise SipTrunkProvisionFailed(
            "Outbound calls through a SIP carrier need sip.address, sip.username and sip.password."
        )
    known = request.sip.allowed_addresses or not _answers_challenge(request)
    if request.supports_inbound and not (request.sip.username or known):
        raise InvalidRequest(
            "Say who may call: give sip.username and sip.password, or sip.allowed_addresses."
        )


def _carrier(request: ImportRequest, settings: Settings) -> dict[str, str]:
    """What the customer must set at the carrier; never the password again."""
    found = {
        "address": settings.livekit_sip_host,
        "transport": _transport(request, RoutingMode.SIP_TRUNK).value,
    }
    if request.sip.username is not None and _answers_challenge(request):
        found["username"] = request.sip.username
    return found


def _sip_address(request: ImportRequest, settings: Settings) -> str | None:
    """The host for outbound calls: the caller's, else the platform's, else None: made later."""
    sip = request.sip
    if (sip.username is None) != (sip.password is None):
        raise SipLoginIncomplete("Give sip.username and sip.password together.")
    if sip.username is not None and sip.password is not None:
        _require_plain_login(sip.username, sip.password.get_secret_value())
    if sip.address is not None:
        # The platform's own is the operator's choice, wherever it is.
        own = settings.platform_sip(_carrier_of(request))[0]
        return own if sip.address == own else read_sip_address(sip.address, settings)
    if not request.supports_outbound:
        return None
    platform = _platform_sip(_carrier_of(request), settings)
    if platform is None and sip.username is not None:
        raise SipLoginIncomplete
    return None if platform is None else platform[0]


def _require_plain_login(username: str, password: str) -> None:
    if _SIP_USERNAME.fullmatch(username) is None:
        raise InvalidRequest(
            "sip.username must be ASCII without spaces, quotes, angle brackets and backslashes."
        )
    if not password.isprintable():
        raise InvalidRequest("sip.password must hold no control characters, such as a line's end.")


def _is_platforms(request: ImportRequest, address: str | None, settings: Settings) -> bool:
    """Whether a host is the platform's own: no other must ever be sent the platform's login."""
    return address is not None and address == settings.platform_sip(_carrier_of(request))[0]


def _platform_sip(provider: ProviderName, settings: Settings) -> tuple[str, str, str] | None:
    """The platform's own SIP login at a provider, from the environment."""
    address, username, password = settings.platform_sip(provider)
    if address is None and username is None and password is None:
        return None
    if address is None or username is None or password is None:
        name = provider.upper()
        raise SipTrunkProvisionFailed(
            "The platform's SIP login is incomplete; the operator must set all of "
            f"{name}_TRUNK_ADDRESS, {name}_SIP_USERNAME and {name}_SIP_PASSWORD, or none."
        )
    return address, username, password.get_secret_value()


def secrets_of(request: ImportRequest, spec: ImportSpec, settings: Settings) -> ImportSecrets:
    """Returns what only the vault may keep of a request, with the logins made for it."""
    username = request.sip.username
    password = request.sip.password.get_secret_value() if request.sip.password else None
    inbound: tuple[str | None, str | None] = (_generated("in"), _password())
    if spec.ownership is Ownership.ASSERTED:
        inbound = (username, password) if _answers_challenge(request) else (None, None)
    if username is None and _is_platforms(request, spec.sip_address, settings):
        platform = _platform_sip(_carrier_of(request), settings)
        assert platform is not None, "it has the address"
        _, username, password = platform
    return ImportSecrets(
        inbound_username=inbound[0],
        inbound_password=inbound[1],
        termination_username=_generated("out"),
        termination_password=_password(),
        sip_username=username,
        sip_password=password,
        pin=request.inbound.pin.get_secret_value() if request.inbound.pin else "",
        callback_url=request.callback_url.get_secret_value() if request.callback_url else None,
        fingerprint=fingerprint_of(request),
    )


def require_verifiable(spec: ImportSpec, credentials: Credentials) -> None:
    """Refuses an import whose calls would begin with a webhook that could never be verified."""
    webhook = spec.routing_mode is RoutingMode.WEBHOOK and spec.supports_inbound
    if (webhook or spec.sms_enabled) and not credentials.can_verify_webhooks:
        raise SignaturesUnverifiable


def warnings_of(spec: ImportSpec, credentials: Credentials) -> list[str]:
    """Returns what a caller should know although nothing is refused."""
    found = []
    if not spec.phone_number.is_in_known_range:
        found.append("The number is in no range that its country is known to have given out.")
    if spec.records_only:
        return [*found, "Neither calls nor SMS are set up: the number is only recorded."]
    if not credentials.can_verify_webhooks and spec.ownership is Ownership.PROVEN:
        found.append(
            "Call status webhooks are not set: their signatures could not be verified with "
            "these credentials."
        )
    return [*found, *PROVIDERS[spec.provider].notes(spec.routing_mode, sms=spec.sms_enabled)]


def parse_credentials(provider: ProviderName, values: Mapping[str, Any]) -> Credentials:
    """Parses a provider's credentials.

    Raises:
        InvalidRequest: names each wrong field, never its value.
    """
    try:
        return PROVIDERS[provider].credentials_model(**values)
    except (ValidationError, TypeError) as error:
        raise InvalidRequest(explain(error, prefix="credentials.")) from None


def explain(error: ValidationError | TypeError, *, prefix: str = "") -> str:
    """Returns a sentence that names each wrong field, never its value."""
    if isinstance(error, TypeError):
        return f"{prefix.rstrip('.')}: every field needs a name."
    found = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = prefix + ".".join(str(part) for part in fault["loc"])
        found.append(f"{place.rstrip('.')}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(found)


def fingerprint_of(request: ImportRequest) -> str:
    """A digest of everything that a request says; kept in the vault only."""
    plain = request.model_dump(mode="json")
    password, pin = request.sip.password, request.inbound.pin
    # Not by truth: an empty secret is false, and no JSON either.
    plain["sip"]["password"] = None if password is None else password.get_secret_value()
    plain["inbound"]["pin"] = None if pin is None else pin.get_secret_value()
    url = request.callback_url
    plain["callback_url"] = None if url is None else url.get_secret_value()
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _default_mode(modes: frozenset[RoutingMode]) -> RoutingMode:
    return RoutingMode.WEBHOOK if RoutingMode.WEBHOOK in modes else RoutingMode.SIP_TRUNK


def _generated(kind: str) -> str:
    return f"tl{kind}{secrets.token_hex(8)}"


def _password() -> str:
    """24 letters and digits with at least one of each kind, as Twilio's credential lists demand."""
    while True:
        text = "".join(secrets.choice(_ALPHANUMERIC) for _ in range(24))
        if (
            any(c.isdigit() for c in text)
            and any(c.islower() for c in text)
            and any(c.isupper() for c in text)
        ):
            return text


def _networks(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Returns addresses and networks; a network of everything would open the trunk to anybody."""
    for text in addresses:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise InvalidRequest(
                "sip.allowed_addresses takes IP addresses and networks, such as 203.0.113.0/30."
            ) from None
        if network.prefixlen < _WIDEST_PREFIX:
            raise InvalidRequest("A network in sip.allowed_addresses must be /8 or narrower.")
    return addresses
