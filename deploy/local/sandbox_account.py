"""The vendor accounts that `make demo` and `make up` play with in the sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

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
        return {
            "phone_number": phone_number,
            "provider": "twilio",
            "credentials": {"account_sid": self.sid, "auth_token": self.auth_token},
            "friendly_name": "Support line",
            "routing_mode": routing_mode,
            "supports_inbound": True,
            "supports_outbound": True,
        }
