"""Plivo's resources as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploy.sandbox.plivo_state import (
        AccessList,
        Application,
        Credential,
        Number,
        OriginationUri,
        Trunk,
    )
    from deploy.sandbox.plivo_wire import Context


def account_document(context: Context) -> dict[str, object]:
    """Whoever asks.

    What a sub-account is told here is not documented: its own name, and nothing about money.
    """
    account = context.account
    if context.sub_account is not None:
        return {
            "auth_id": context.sub_account,
            "name": account.subaccounts[context.sub_account].name,
            "resource_uri": _base(context),
        }
    return {
        "account_type": account.account_type,
        "address": "",
        "auth_id": account.auth_id,
        "auto_recharge": False,
        "billing_mode": account.billing_mode,
        "cash_credits": account.cash_credits,
        "city": "",
        "name": account.name,
        "resource_uri": _base(context),
        "state": "",
        "timezone": account.timezone,
    }


def number_document(context: Context, number: Number) -> dict[str, object]:
    """A number. What a trunk looks like in `application` is a third party's word."""
    target = None
    if number.app_id in context.account.zentrunk.trunks:
        target = f"{_base(context)}Zentrunk/Trunk/{number.app_id}/"
    elif number.app_id:
        target = f"{_base(context)}Application/{number.app_id}/"
    return {
        "active": number.active,
        "added_on": number.added_on,
        "alias": number.alias or None,
        "application": target,
        "carrier": number.carrier,
        "city": number.city,
        "cnam_lookup": number.cnam_lookup,
        "compliance_application_id": None,
        "compliance_status": number.compliance_status,
        "country": number.country,
        "mms_enabled": number.mms_enabled,
        "mms_rate": "0.00000",
        "monthly_rental_rate": "0.80000",
        "number": number.number,
        "number_type": number.number_type,
        "region": number.region,
        "renewal_date": number.renewal_date,
        "resource_uri": f"{_base(context)}Number/{number.number}/",
        "sms_enabled": number.sms_enabled,
        "sms_rate": "0.00000",
        "sub_account": number.sub_account,
        "tendlc_campaign_id": None,
        "tendlc_registration_status": number.tendlc_registration_status,
        "toll_free_sms_verification": number.toll_free_sms_verification,
        "voice_enabled": number.voice_enabled,
        "voice_rate": "0.00850",
    }


def application_document(context: Context, application: Application) -> dict[str, object]:
    """An application; `default_number_app` is called `default_app` here."""
    return {
        "answer_method": application.answer_method,
        "answer_url": application.answer_url,
        "app_id": application.id,
        "app_name": application.app_name,
        "default_app": application.default_number_app,
        "default_endpoint_app": application.default_endpoint_app,
        "enabled": application.enabled,
        "fallback_answer_url": application.fallback_answer_url,
        "fallback_method": application.fallback_method,
        "hangup_method": application.hangup_method,
        "hangup_url": application.hangup_url,
        "log_incoming_messages": application.log_incoming_messages,
        "message_method": application.message_method,
        "message_url": application.message_url,
        "public_uri": application.public_uri,
        "resource_uri": f"{_base(context)}Application/{application.id}/",
        "sip_uri": f"sip:{application.id}@app.plivo.com",
        "sub_account": application.sub_account,
    }


def uri_document(item: OriginationUri) -> dict[str, object]:
    """An origination URI, without its password."""
    return {
        "uri_uuid": item.id,
        "name": item.name,
        "uri": item.uri,
        "authentication_needed": item.authentication_needed,
        "username": item.username or None,
    }


def credential_document(item: Credential) -> dict[str, object]:
    """A credential, without its password."""
    return {"credential_uuid": item.id, "name": item.name, "username": item.username}


def access_list_document(item: AccessList) -> dict[str, object]:
    """An IP access control list."""
    return {"ipacl_uuid": item.id, "name": item.name, "ip_addresses": list(item.ip_addresses)}


def trunk_document(item: Trunk) -> dict[str, object]:
    """A trunk. Whether an inbound one has a domain is not documented; here it has none."""
    return {
        "trunk_id": item.id,
        "trunk_domain": item.domain if item.trunk_direction == "outbound" else None,
        "name": item.name,
        "trunk_status": item.trunk_status,
        "trunk_direction": item.trunk_direction,
        "secure": item.secure,
        "ipacl_uuid": item.ipacl_uuid or None,
        "credential_uuid": item.credential_uuid or None,
        "primary_uri_uuid": item.primary_uri_uuid or None,
        "fallback_uri_uuid": item.fallback_uri_uuid or None,
    }


def _base(context: Context) -> str:
    return f"/v1/Account/{context.auth_id}/"
