"""Twilio's resources as JSON. What is unset is null or empty, by field as at the vendor."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from deploy.sandbox.twilio_state import Hooks
from deploy.sandbox.twilio_wire import Context, iso8601, rfc2822

if TYPE_CHECKING:
    from deploy.sandbox.twilio_state import (
        Account,
        Application,
        Credential,
        CredentialList,
        OriginationUrl,
        PhoneNumber,
        Stamped,
        Trunk,
    )

_HOOKS: Final = tuple(field.name for field in fields(Hooks))


def settings(number: PhoneNumber) -> dict[str, object]:
    """Everything that decides what happens to a number's calls and messages."""
    return {
        **_hooks(number),
        "friendly_name": number.friendly_name,
        "voice_application_sid": number.voice_application_sid,
        "sms_application_sid": number.sms_application_sid,
        "trunk_sid": number.trunk_sid or None,
    }


def account_document(account: Account, *, shows_token: bool) -> dict[str, object]:
    """An account, its auth token only for those who may see it."""
    uri = _base(account)
    return {
        "sid": account.sid,
        "auth_token": account.auth_token if shows_token else None,
        "friendly_name": account.friendly_name,
        "owner_account_sid": account.owner_account_sid,
        "status": account.status,
        "type": account.type,
        "date_created": rfc2822(account.created),
        "date_updated": rfc2822(account.created),
        "uri": f"{uri}.json",
        "subresource_uris": {"incoming_phone_numbers": f"{uri}/IncomingPhoneNumbers.json"},
    }


def number_document(account: Account, number: PhoneNumber) -> dict[str, object]:
    """A number in the 2010 API."""
    uri = f"{_base(account)}/IncomingPhoneNumbers/{number.sid}"
    return {
        **settings(number),
        **_dates_2010(number),
        "sid": number.sid,
        "account_sid": account.sid,
        "phone_number": number.phone_number,
        "capabilities": number.capabilities,
        "voice_receive_mode": number.voice_receive_mode,
        "status": number.status,
        "type": number.type,
        "origin": number.origin,
        "beta": number.beta,
        "api_version": number.api_version,
        "address_requirements": number.address_requirements,
        "address_sid": number.address_sid or None,
        "bundle_sid": number.bundle_sid or None,
        "identity_sid": number.identity_sid or None,
        "emergency_status": number.emergency_status,
        "emergency_address_sid": number.emergency_address_sid or None,
        "emergency_address_status": number.emergency_address_status,
        "uri": f"{uri}.json",
        "subresource_uris": {"assigned_add_ons": f"{uri}/AssignedAddOns.json"},
    }


def application_document(account: Account, application: Application) -> dict[str, object]:
    """An application."""
    return {
        **_hooks(application),
        **_dates_2010(application),
        "sid": application.sid,
        "account_sid": account.sid,
        "friendly_name": application.friendly_name,
        "api_version": application.api_version,
        "sms_status_callback": application.sms_status_callback,
        "message_status_callback": application.message_status_callback,
        "public_application_connect_enabled": application.public_application_connect_enabled,
        "uri": f"{_base(account)}/Applications/{application.sid}.json",
    }


def credential_list_document(account: Account, item: CredentialList) -> dict[str, object]:
    """A credential list."""
    uri = f"{_base(account)}/SIP/CredentialLists/{item.sid}"
    return {
        **_dates_2010(item),
        "sid": item.sid,
        "account_sid": account.sid,
        "friendly_name": item.friendly_name,
        "uri": f"{uri}.json",
        "subresource_uris": {"credentials": f"{uri}/Credentials.json"},
    }


def credential_document(
    account: Account, parent: CredentialList, item: Credential
) -> dict[str, object]:
    """A credential, without its password."""
    return {
        **_dates_2010(item),
        "sid": item.sid,
        "account_sid": account.sid,
        "credential_list_sid": parent.sid,
        "username": item.username,
        "uri": f"{_base(account)}/SIP/CredentialLists/{parent.sid}/Credentials/{item.sid}.json",
    }


def trunk_document(context: Context, trunk: Trunk) -> dict[str, object]:
    """A trunk. Without any mapped authentication its domain receives no calls."""
    authentication = ["CREDENTIAL_LIST"] if trunk.credential_list_sids else []
    address = _address(context, trunk)
    return {
        **_dates_v1(trunk),
        "sid": trunk.sid,
        "account_sid": context.account.sid,
        "friendly_name": trunk.friendly_name or None,
        "domain_name": trunk.domain_name or None,
        "secure": trunk.secure,
        "cnam_lookup_enabled": trunk.cnam_lookup_enabled,
        "disaster_recovery_url": trunk.disaster_recovery_url or None,
        "disaster_recovery_method": trunk.disaster_recovery_method,
        "recording": {"mode": "do-not-record", "trim": "do-not-trim"},
        "transfer_mode": trunk.transfer_mode,
        "transfer_caller_id": trunk.transfer_caller_id,
        "auth_type": ",".join(authentication),
        "auth_type_set": authentication,
        "symmetric_rtp_enabled": False,
        "url": address,
        "links": {
            "origination_urls": f"{address}/OriginationUrls",
            "credential_lists": f"{address}/CredentialLists",
            "phone_numbers": f"{address}/PhoneNumbers",
        },
    }


def origination_url_document(
    context: Context, trunk: Trunk, item: OriginationUrl
) -> dict[str, object]:
    """An origination URL of a trunk."""
    return {
        **_dates_v1(item),
        "sid": item.sid,
        "account_sid": context.account.sid,
        "trunk_sid": trunk.sid,
        "friendly_name": item.friendly_name,
        "sip_url": item.sip_url,
        "weight": item.weight,
        "priority": item.priority,
        "enabled": item.enabled,
        "url": f"{_address(context, trunk)}/OriginationUrls/{item.sid}",
    }


def mapped_list_document(context: Context, trunk: Trunk, item: CredentialList) -> dict[str, object]:
    """A credential list as part of a trunk."""
    return {
        **_dates_v1(item),
        "sid": item.sid,
        "account_sid": context.account.sid,
        "trunk_sid": trunk.sid,
        "friendly_name": item.friendly_name,
        "url": f"{_address(context, trunk)}/CredentialLists/{item.sid}",
    }


def trunk_number_document(context: Context, trunk: Trunk, number: PhoneNumber) -> dict[str, object]:
    """A number as part of a trunk."""
    address = _address(context, trunk)
    return {
        **settings(number),
        **_dates_v1(number),
        "sid": number.sid,
        "account_sid": context.account.sid,
        "phone_number": number.phone_number,
        "address_requirements": number.address_requirements,
        "api_version": number.api_version,
        "beta": number.beta,
        "capabilities": number.capabilities,
        "url": f"{address}/PhoneNumbers/{number.sid}",
        "links": {"trunk": address},
    }


def _hooks(item: Hooks) -> dict[str, object]:
    return {name: getattr(item, name) for name in _HOOKS}


def _dates_2010(item: Stamped) -> dict[str, object]:
    return {"date_created": rfc2822(item.created), "date_updated": rfc2822(item.updated)}


def _dates_v1(item: Stamped) -> dict[str, object]:
    return {"date_created": iso8601(item.created), "date_updated": iso8601(item.updated)}


def _base(account: Account) -> str:
    return f"/2010-04-01/Accounts/{account.sid}"


def _address(context: Context, trunk: Trunk) -> str:
    return f"{context.base_url}/v1/Trunks/{trunk.sid}"
