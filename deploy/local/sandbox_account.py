"""The vendor accounts that `make demo` and `make up` play with in the sandbox."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: Where Twilio points a number that nobody has configured.
UNTOUCHED_VOICE_URL: Final = "https://demo.twilio.com/welcome/voice/"


@dataclass(frozen=True, kw_only=True)
class TwilioAccount:
    """A sandbox account with its numbers."""

    sid: str
    auth_token: str
    phone_numbers: tuple[str, ...]

    def seed(self) -> dict[str, Any]:
        """Returns the account as the sandbox wants it."""
        numbers = [
            {"phone_number": number, "voice_url": UNTOUCHED_VOICE_URL}
            for number in self.phone_numbers
        ]
        account = {"sid": self.sid, "auth_token": self.auth_token, "numbers": numbers}
        return {"twilio": {"accounts": [account]}}

    def order(self, phone_number: str, *, routing_mode: str = "webhook") -> dict[str, Any]:
        """Returns the body of an import of one of its numbers."""
        credentials = {"account_sid": self.sid, "auth_token": self.auth_token}
        return _order("twilio", phone_number, routing_mode, credentials=credentials)


@dataclass(frozen=True, kw_only=True)
class TelnyxAccount:
    """A sandbox account with a number that goes nowhere yet."""

    api_key: str
    webhook_private_key: str
    phone_number: str
    id: str = "telnyx-demo"

    def seed(self) -> dict[str, Any]:
        """Returns the account as the sandbox wants it."""
        account = {
            "id": self.id,
            "api_key": self.api_key,
            "webhook_private_key": self.webhook_private_key,
            "rules": {"null_unassigns": True},
            "numbers": [{"phone_number": self.phone_number}],
        }
        return {"telnyx": {"accounts": [account]}}

    def order(self, *, routing_mode: str = "webhook") -> dict[str, Any]:
        """Returns the body of an import of its number."""
        key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(self.webhook_private_key))
        public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
        credentials = {"api_key": self.api_key, "public_key": public}
        return _order("telnyx", self.phone_number, routing_mode, credentials=credentials)


@dataclass(frozen=True, kw_only=True)
class PlivoAccount:
    """A sandbox account with a number that goes nowhere yet."""

    auth_id: str
    auth_token: str
    phone_number: str

    def seed(self) -> dict[str, Any]:
        """Returns the account as the sandbox wants it."""
        account = {
            "auth_id": self.auth_id,
            "auth_token": self.auth_token,
            "sip_trunking": True,
            "numbers": [{"number": self.phone_number.lstrip("+")}],
        }
        return {"plivo": {"accounts": [account]}}

    def order(self, *, routing_mode: str = "webhook") -> dict[str, Any]:
        """Returns the body of an import of its number."""
        credentials = {"auth_id": self.auth_id, "auth_token": self.auth_token}
        return _order("plivo", self.phone_number, routing_mode, credentials=credentials)


def carrier_order(phone_number: str, password: str) -> dict[str, Any]:
    """Returns the body of an import of a SIP carrier's number."""
    sip = {"address": "sip.example.com", "username": "acme", "password": password}
    return _order("sip", phone_number, "sip_trunk", sip=sip)


def _order(provider: str, phone_number: str, routing_mode: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- fields of the request
    return {
        "phone_number": phone_number,
        "provider": provider,
        **more,
        "friendly_name": "Support line",
        "routing_mode": routing_mode,
        "supports_inbound": True,
        "supports_outbound": True,
    }
