"""The kinds of resource that have fields: which fields, which are required, how they are listed.

https://developers.telnyx.com/api-reference; the vendor's own SDK is generated from the same text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from deploy.sandbox.telnyx_fields import (
    Field,
    Fields,
    boolean,
    destinations,
    host,
    messaging_destinations,
    nested,
    number,
    one_of,
    password,
    port,
    required_url,
    text,
    texts,
    url,
    user_name,
)
from deploy.sandbox.telnyx_state import Account, Resource, Store, new_id, new_uuid
from deploy.sandbox.telnyx_wire import refused_query

Predicate = Callable[[Resource], bool]
#: Takes the query parameter's name and text; raises TelnyxError.
Filter = Callable[[Account, str, str], Predicate]

_MIN_CONTAINS: Final = 3
_MAX_CHANNELS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of resource."""

    record_type: str
    #: Path segment and part of the operation names.
    path: str
    store: Store
    fields: Fields
    required: tuple[str, ...]
    #: What a PATCH must carry even if it does not change.
    required_on_update: tuple[str, ...] = ()
    #: Documented as 200 for profiles and 201 for the rest; call control applications are assumed.
    created_status: int = HTTPStatus.CREATED
    new_id: Callable[[], str] = new_id
    filters: Mapping[str, Filter]
    #: Fields that a list can be sorted by, next to `created_at`.
    sorts: tuple[str, ...] = ()


def contains(field: str, least: int = _MIN_CONTAINS) -> Filter:
    """The field contains the text, in any case; fewer characters than the least are refused."""

    def build(_account: Account, name: str, wanted: str) -> Predicate:
        _require_length(name, wanted, least)
        return lambda item: wanted.lower() in item.text(field).lower()

    return build


def equals(field: str) -> Filter:
    """The field is exactly the text."""
    return lambda _account, _name, wanted: lambda item: item.text(field) == wanted


def _name_contains(_account: Account, name: str, wanted: str) -> Predicate:
    """As `contains`, whatever the kind calls its name."""
    _require_length(name, wanted, _MIN_CONTAINS)
    return lambda item: wanted.lower() in item.name.lower()


def _has_profile(_account: Account, _name: str, wanted: str) -> Predicate:
    return lambda item: item.outbound_voice_profile_id == wanted


def _has_fqdn(account: Account, _name: str, wanted: str) -> Predicate:
    """Compared in full, with its case."""
    owners = {
        fqdn.text("connection_id") for fqdn in account.fqdns.values() if fqdn.text("fqdn") == wanted
    }
    return lambda item: item.id in owners


def _require_length(name: str, wanted: str, least: int) -> None:
    if len(wanted) < least:
        raise refused_query(name, f"{name} requires at least {least} characters")


_CHANNELS: Final = Field(number(0, _MAX_CHANNELS), nullable=True)
_SECONDS: Final = Field(number(1, 600), nullable=True)
_FLAG: Final = Field(boolean, default=False)
_METHOD: Final = Field(one_of("get", "post"), default="post")
_URL: Final = Field(url, nullable=True)
_PROFILE: Final = Field(text, nullable=True)
_SUBDOMAIN: Final = MappingProxyType(
    {
        "sip_subdomain": Field(text, nullable=True),
        "sip_subdomain_receive_settings": Field(
            one_of("only_my_connections", "from_anyone"), default="from_anyone"
        ),
    }
)
#: What every connection and application has.
_COMMON: Final[Fields] = MappingProxyType(
    {
        "active": Field(boolean, default=True),
        "anchorsite_override": Field(
            one_of(
                "Latency",
                "Chicago, IL",
                "Ashburn, VA",
                "San Jose, CA",
                "Sydney, Australia",
                "Amsterdam, Netherlands",
                "London, UK",
                "Toronto, Canada",
                "Vancouver, Canada",
                "Frankfurt, Germany",
            ),
            default="Latency",
        ),
        "call_cost_in_webhooks": _FLAG,
        "dtmf_type": Field(one_of("RFC 2833", "Inband", "SIP INFO"), default="RFC 2833"),
        "tags": Field(texts, default=()),
    }
)
_EVENTS: Final[Fields] = MappingProxyType(
    {
        "webhook_event_url": _URL,
        "webhook_event_failover_url": _URL,
        "webhook_api_version": Field(one_of("1", "2"), default="1"),
        "webhook_timeout_secs": Field(number(0, 30), nullable=True),
    }
)
_APPLICATION: Final[Fields] = MappingProxyType(
    {
        **_COMMON,
        "first_command_timeout": _FLAG,
        "first_command_timeout_secs": Field(number(1, 600), default=30),
        "inbound": nested({"channel_limit": _CHANNELS, "shaken_stir_enabled": _FLAG, **_SUBDOMAIN}),
        "outbound": nested({"channel_limit": _CHANNELS, "outbound_voice_profile_id": _PROFILE}),
    }
)
_SIP_INBOUND: Final[Fields] = MappingProxyType(
    {
        # The two defaults that surprise: no country code for the caller, no plus for the called.
        "ani_number_format": Field(
            one_of("+E.164", "E.164", "+E.164-national", "E.164-national"),
            default="E.164-national",
        ),
        "dnis_number_format": Field(
            one_of("+e164", "e164", "national", "sip_username"), default="e164"
        ),
        "channel_limit": _CHANNELS,
        "codecs": Field(texts, default=("G722", "G711U", "G711A")),
        "default_routing_method": Field(one_of("sequential", "round-robin"), nullable=True),
        "generate_ringback_tone": _FLAG,
        "isup_headers_enabled": _FLAG,
        "prack_enabled": _FLAG,
        "shaken_stir_enabled": _FLAG,
        "sip_compact_headers_enabled": Field(boolean, default=True),
        "timeout_1xx_secs": _SECONDS,
        "timeout_2xx_secs": _SECONDS,
    }
)
_SIP_OUTBOUND: Final[Fields] = MappingProxyType(
    {
        "ani_override": Field(text, nullable=True),
        "ani_override_type": Field(one_of("always", "normal", "emergency"), default="always"),
        "call_parking_enabled": Field(boolean, default=False, nullable=True),
        "channel_limit": _CHANNELS,
        "generate_ringback_tone": _FLAG,
        "instant_ringback_enabled": _FLAG,
        "localization": Field(text, nullable=True),
        "outbound_voice_profile_id": _PROFILE,
    }
)
_SIP: Final[Fields] = MappingProxyType(
    {
        "connection_name": Field(text),
        **_COMMON,
        **_EVENTS,
        "encrypted_media": Field(one_of("SRTP"), nullable=True),
        "onnet_t38_passthrough_enabled": _FLAG,
        "user_name": Field(user_name, nullable=True),
        "password": Field(password, nullable=True),
    }
)
_CONNECTION_FILTERS: Final[Mapping[str, Filter]] = MappingProxyType(
    {
        "filter[connection_name][contains]": _name_contains,
        "filter[fqdn]": _has_fqdn,
        "filter[outbound_voice_profile_id]": _has_profile,
        "filter[outbound.outbound_voice_profile_id]": _has_profile,
    }
)

TEXML_APPLICATIONS: Final = Kind(
    record_type="texml_application",
    path="texml_applications",
    store="connections",
    fields={
        "friendly_name": Field(text),
        **_APPLICATION,
        "voice_url": Field(required_url),
        "voice_fallback_url": _URL,
        "voice_method": _METHOD,
        "status_callback": _URL,
        "status_callback_method": _METHOD,
    },
    required=("friendly_name", "voice_url"),
    required_on_update=("friendly_name", "voice_url"),
    filters={
        "filter[friendly_name]": contains("friendly_name"),
        "filter[outbound_voice_profile_id]": _has_profile,
    },
    sorts=("friendly_name", "active"),
)
CALL_CONTROL_APPLICATIONS: Final = Kind(
    record_type="call_control_application",
    path="call_control_applications",
    store="connections",
    fields={
        "application_name": Field(text),
        **_APPLICATION,
        **_EVENTS,
        "webhook_event_url": Field(required_url),
        "redact_dtmf_debug_logging": _FLAG,
    },
    required=("application_name", "webhook_event_url"),
    required_on_update=("application_name", "webhook_event_url"),
    filters={
        "filter[application_name][contains]": contains("application_name"),
        "filter[outbound.outbound_voice_profile_id]": _has_profile,
    },
    sorts=("connection_name", "active"),
)
FQDN_CONNECTIONS: Final = Kind(
    record_type="fqdn_connection",
    path="fqdn_connections",
    store="connections",
    fields={
        **_SIP,
        "transport_protocol": Field(one_of("UDP", "TCP", "TLS"), default="UDP"),
        "inbound": nested(
            {
                **_SIP_INBOUND,
                **_SUBDOMAIN,
                "default_primary_fqdn_id": Field(text, nullable=True),
                "default_secondary_fqdn_id": Field(text, nullable=True),
                "default_tertiary_fqdn_id": Field(text, nullable=True),
                "sip_region": Field(one_of("US", "Europe", "Australia"), default="US"),
            }
        ),
        "outbound": nested(
            {
                **_SIP_OUTBOUND,
                "encrypted_media": Field(one_of("SRTP"), nullable=True),
                "ip_authentication_method": Field(
                    one_of("credential-authentication", "ip-authentication"), nullable=True
                ),
                "tech_prefix": Field(text, nullable=True),
            }
        ),
    },
    required=("connection_name",),
    filters=_CONNECTION_FILTERS,
    sorts=("connection_name", "active"),
)
CREDENTIAL_CONNECTIONS: Final = Kind(
    record_type="credential_connection",
    path="credential_connections",
    store="connections",
    fields={
        **_SIP,
        "inbound": nested(_SIP_INBOUND),
        "outbound": nested(_SIP_OUTBOUND),
        "sip_uri_calling_preference": Field(
            one_of("disabled", "unrestricted", "internal"), nullable=True
        ),
    },
    required=("connection_name", "user_name", "password"),
    filters=_CONNECTION_FILTERS,
    sorts=("connection_name", "active"),
)
FQDNS: Final = Kind(
    record_type="fqdn",
    path="fqdns",
    store="fqdns",
    fields={
        "connection_id": Field(text),
        "fqdn": Field(host),
        "dns_record_type": Field(one_of("a", "srv")),
        "port": Field(port, nullable=True),
    },
    required=("connection_id", "fqdn", "dns_record_type"),
    filters={
        f"filter[{name}]": equals(name)
        for name in ("connection_id", "fqdn", "port", "dns_record_type")
    },
)
OUTBOUND_VOICE_PROFILES: Final = Kind(
    record_type="outbound_voice_profile",
    path="outbound_voice_profiles",
    store="outbound_voice_profiles",
    fields={
        "name": Field(text),
        "traffic_type": Field(one_of("conversational"), default="conversational"),
        "service_plan": Field(one_of("global"), default="global"),
        "usage_payment_method": Field(one_of("rate-deck"), default="rate-deck"),
        "concurrent_call_limit": Field(number(1, _MAX_CHANNELS), nullable=True),
        "enabled": Field(boolean, default=True),
        "tags": Field(texts, default=()),
        "whitelisted_destinations": Field(destinations, default=("US", "CA")),
        "daily_spend_limit": Field(text, nullable=True),
        "daily_spend_limit_enabled": _FLAG,
    },
    required=("name",),
    required_on_update=("name",),
    created_status=HTTPStatus.OK,
    filters={"filter[name][contains]": contains("name", least=1)},
    sorts=("enabled", "name", "service_plan", "traffic_type", "usage_payment_method"),
)
MESSAGING_PROFILES: Final = Kind(
    record_type="messaging_profile",
    path="messaging_profiles",
    store="messaging_profiles",
    fields={
        "name": Field(text),
        "whitelisted_destinations": Field(messaging_destinations),
        "enabled": Field(boolean, default=True),
        "webhook_url": _URL,
        "webhook_failover_url": _URL,
        "webhook_api_version": Field(one_of("1", "2", "2010-04-01"), default="2"),
        "alpha_sender": Field(text, nullable=True),
        "daily_spend_limit": Field(text, nullable=True),
        "daily_spend_limit_enabled": _FLAG,
        "mms_fall_back_to_sms": _FLAG,
        "mms_transcoding": _FLAG,
        "mobile_only": _FLAG,
        "smart_encoding": _FLAG,
    },
    required=("name", "whitelisted_destinations"),
    created_status=HTTPStatus.OK,
    new_id=new_uuid,
    filters={
        # `filter[name]` is documented without saying how it compares.
        "filter[name]": equals("name"),
        "filter[name][eq]": equals("name"),
        "filter[name][contains]": contains("name", least=1),
    },
)

KINDS: Final = (
    TEXML_APPLICATIONS,
    CALL_CONTROL_APPLICATIONS,
    FQDN_CONNECTIONS,
    CREDENTIAL_CONNECTIONS,
    FQDNS,
    OUTBOUND_VOICE_PROFILES,
    MESSAGING_PROFILES,
)
#: Connections that exist at the vendor and can be seeded, but that nothing here creates.
FOREIGN_RECORD_TYPES: Final = (
    "external_connection",
    "fax_application",
    "ip_connection",
    "mobile_voice_connection",
    "uac_connection",
)
FOREIGN_FIELDS: Final[Fields] = MappingProxyType(
    {
        "connection_name": Field(text, default="theirs"),
        **_COMMON,
        **_EVENTS,
        "outbound_voice_profile_id": _PROFILE,
    }
)
#: The list of all connections, whatever their kind.
CONNECTION_FILTERS: Final = _CONNECTION_FILTERS
CONNECTION_SORTS: Final = ("connection_name", "active")
