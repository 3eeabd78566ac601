"""How Telnyx shows what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from deploy.sandbox.telnyx_wire import iso8601

if TYPE_CHECKING:
    from deploy.sandbox.telnyx_state import Account, PhoneNumber, Resource

_HIDDEN: Final = "********"
#: What the list of all connections shows of each, next to its name.
_SHARED: Final = (
    "active",
    "anchorsite_override",
    "tags",
    "webhook_api_version",
    "webhook_event_url",
    "webhook_event_failover_url",
)


def resource_document(
    account: Account, resource: Resource, *, shows_password: bool = False
) -> dict[str, object]:
    """A resource with all its fields; see `Account.hides_passwords` for the password."""
    document = {
        "id": resource.id,
        "record_type": resource.record_type,
        **resource.values,
        "created_at": iso8601(resource.created),
        "updated_at": iso8601(resource.updated),
    }
    if "password" in document:
        document["password"] = _password(account, resource, shows=shows_password)
    if resource.record_type == "outbound_voice_profile":
        document["connections_count"] = sum(
            item.outbound_voice_profile_id == resource.id for item in account.connections.values()
        )
    return document


def connection_document(resource: Resource) -> dict[str, object]:
    """What connections of every kind have in common.

    What a TeXML application shows for `webhook_event_url` is not documented; here it is null.
    """
    return {
        "id": resource.id,
        "record_type": resource.record_type,
        "connection_name": resource.name,
        "outbound_voice_profile_id": resource.outbound_voice_profile_id or None,
        **{name: resource.values.get(name) for name in _SHARED},
        "created_at": iso8601(resource.created),
        "updated_at": iso8601(resource.updated),
    }


def fqdn_authentication(
    account: Account, resource: Resource, *, shows_password: bool = False
) -> dict[str, object]:
    """How an FQDN connection authenticates outbound calls."""
    outbound = resource.values["outbound"]
    assert isinstance(outbound, Mapping)
    return {
        "id": resource.id,
        "record_type": "fqdn_authentication",
        "connection_id": resource.id,
        "fqdn_outbound_authentication": outbound["ip_authentication_method"],
        "user_name": resource.values["user_name"],
        "password": _password(account, resource, shows=shows_password),
    }


def number_document(account: Account, number: PhoneNumber) -> dict[str, object]:
    """A number."""
    connection = account.connections.get(number.connection_id or "")
    profile = account.messaging_profiles.get(number.messaging_profile_id or "")
    return {
        "id": number.id,
        "record_type": "phone_number",
        "phone_number": number.phone_number,
        "country_iso_alpha2": number.country_iso_alpha2,
        "status": number.status,
        "phone_number_type": number.phone_number_type,
        "tags": number.tags,
        "customer_reference": number.customer_reference,
        "connection_id": number.connection_id,
        "connection_name": connection.name if connection else None,
        "messaging_profile_id": number.messaging_profile_id,
        "messaging_profile_name": profile.name if profile else None,
        "external_pin": None,
        "billing_group_id": None,
        # When exactly it is enabled, and whether an address is shown until then, is not documented.
        "emergency_enabled": number.emergency_status == "active",
        "emergency_address_id": None,
        "emergency_status": number.emergency_status,
        "call_forwarding_enabled": number.call_forwarding_enabled,
        "cnam_listing_enabled": False,
        "caller_id_name_enabled": False,
        "call_recording_enabled": number.call_recording_enabled,
        "t38_fax_gateway_enabled": False,
        "hd_voice_enabled": number.hd_voice_enabled,
        "inbound_call_screening": number.inbound_call_screening,
        "deletion_lock_enabled": number.deletion_lock_enabled,
        "source_type": "number_order",
        "purchased_at": iso8601(number.created),
        "created_at": iso8601(number.created),
        "updated_at": iso8601(number.updated),
    }


def messaging_document(number: PhoneNumber) -> dict[str, object]:
    """A number's messaging settings."""
    features = {
        "domestic_two_way": True,
        "international_inbound": True,
        "international_outbound": True,
    }
    return {
        "id": number.id,
        "record_type": "messaging_settings",
        "phone_number": number.phone_number,
        "country_code": number.country_iso_alpha2,
        "type": "toll-free" if "toll" in number.phone_number_type else "long-code",
        "messaging_profile_id": number.messaging_profile_id,
        "messaging_product": number.messaging_product if number.sms else None,
        "eligible_messaging_products": ["A2P"] if number.sms else [],
        "traffic_type": "A2P" if number.sms else None,
        "features": {"sms": features if number.sms else None, "mms": None},
        "tags": number.tags,
        "created_at": iso8601(number.created),
        "updated_at": iso8601(number.updated),
    }


def voice_document(number: PhoneNumber) -> dict[str, object]:
    """A number's voice settings: whatever bends a call before it reaches the connection."""
    return {
        "id": number.id,
        "record_type": "voice_settings",
        "phone_number": number.phone_number,
        "connection_id": number.connection_id,
        "customer_reference": number.customer_reference,
        "tech_prefix_enabled": False,
        "translated_number": number.translated_number,
        "call_forwarding": {
            "call_forwarding_enabled": number.call_forwarding_enabled,
            "forwards_to": number.forwards_to,
            "forwarding_type": number.forwarding_type,
        },
        "call_recording": {
            "inbound_call_recording_enabled": number.call_recording_enabled,
            "inbound_call_recording_format": "wav",
            "inbound_call_recording_channels": "single",
        },
        "inbound_call_screening": number.inbound_call_screening,
        "usage_payment_method": "pay-per-minute",
    }


def _password(account: Account, resource: Resource, *, shows: bool) -> str | None:
    password = resource.text("password")
    if not password:
        return None
    return password if shows or not account.hides_passwords else _HIDDEN
