"""A fresh account with one number at each vendor, and the import of it."""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.rig import Rig

_serial = itertools.count(1)
_SIGNING_KEY: Final = Ed25519PrivateKey.from_private_bytes(sha256(b"sandbox").digest())
#: What every Telnyx account here signs its webhooks with.
TELNYX_PUBLIC_KEY: Final = b64encode(_SIGNING_KEY.public_key().public_bytes_raw()).decode()


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """How a vendor's account with one number is seeded and imported."""

    name: str

    def account(
        self, serial: int, *, secret: str = "", query: str = ""
    ) -> tuple[dict[str, Any], dict[str, Any], str]:
        """Returns a seed, credentials, and the name of the account in the sandbox's state.

        The secret is its token or key; the query is that of the URL to which its calls go.
        """
        number = f"+1312555{serial:04}"
        token = secret or "sandbox-token-1"
        voice_url = f"https://pbx.example.com/voice{query}"
        if self.name == "twilio":
            sid = f"ACe{serial:031x}"
            held = {"phone_number": number, "voice_url": voice_url}
            account: dict[str, Any] = {
                "sid": sid,
                "auth_token": token,
                "numbers": [held],
            }
            return account, {"account_sid": sid, "auth_token": token}, sid
        if self.name == "telnyx":
            key = secret or f"sandbox-telnyx-key-{serial}"
            account = {
                "id": f"telnyx-{serial}",
                "api_key": key,
                "webhook_private_key": b64encode(_SIGNING_KEY.private_bytes_raw()).decode(),
                "connections": [
                    {
                        "record_type": "texml_application",
                        "id": f"77{serial:06}",
                        "friendly_name": "pbx",
                        "voice_url": voice_url,
                    }
                ],
                "numbers": [{"phone_number": number, "connection_id": f"77{serial:06}"}],
            }
            public_key = TELNYX_PUBLIC_KEY
            return account, {"api_key": key, "public_key": public_key}, f"telnyx-{serial}"
        auth_id = f"MA{serial:018}"
        account = {
            "auth_id": auth_id,
            "auth_token": token,
            "sip_trunking": True,
            "applications": [
                {
                    "app_id": f"88{serial:06}",
                    "app_name": "pbx",
                    "answer_url": f"https://pbx.example.com/answer{query}",
                }
            ],
            "numbers": [{"number": number.lstrip("+"), "app_id": f"88{serial:06}"}],
        }
        return account, {"auth_id": auth_id, "auth_token": token}, auth_id


VENDORS = [Vendor(name=name) for name in ("twilio", "telnyx", "plivo")]
#: A carrier without an API: there is no account to seed, and nothing of it to compare.
CARRIER: Final = Vendor(name="sip")
#: How the carrier logs in at LiveKit, and LiveKit at the carrier.
CARRIER_LOGIN: Final = {"username": "acme", "password": "sandbox-sip-pass"}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One import and where its account is."""

    vendor: str
    account: str
    number: str
    body: Mapping[str, Any]


def order_of(rig: Rig, vendor: Vendor, mode: str, **request: Any) -> Order:
    serial = next(_serial)
    number = f"+1312555{serial:04}"
    if vendor is CARRIER:
        sip = {**CARRIER_LOGIN, "address": "sip.example.com"}
        body = {"phone_number": number, "provider": vendor.name, "sip": sip, **request}
        return Order(vendor=vendor.name, account="", number=number, body=body)
    account, credentials, name = vendor.account(serial)
    rig.control("seed", {vendor.name: {"accounts": [account]}})
    body = {
        "phone_number": number,
        "provider": vendor.name,
        "credentials": credentials,
        "routing_mode": mode,
        "replace_existing_routing": True,
        **request,
    }
    return Order(vendor=vendor.name, account=name, number=number, body=body)
