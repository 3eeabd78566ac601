"""What a customer gives us to act at Telnyx, and to know Telnyx by."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from hashlib import sha256
from typing import Final

from pydantic import SecretStr, field_validator

from worker.providers._core import Credentials

KEY_BYTES: Final = 32


class TelnyxCredentials(Credentials):
    """An API key, and the account's public key if webhooks are to be verified.

    Telnyx signs webhooks with Ed25519; the public key is shown in the portal only:
    https://developers.telnyx.com/development/api-fundamentals/webhooks/receiving-webhooks
    """

    api_key: SecretStr
    public_key: str | None = None

    @field_validator("api_key")
    @classmethod
    def _is_one_word(cls, value: SecretStr) -> SecretStr:
        # With anything else in it the request fails before it is sent, as if the network were down.
        if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError("must not be empty or contain spaces or special characters")
        return value

    @field_validator("public_key")
    @classmethod
    def _is_ed25519(cls, value: str | None) -> str | None:
        with suppress(binascii.Error, ValueError):
            if value is None or len(base64.b64decode(value, validate=True)) == KEY_BYTES:
                return value
        raise ValueError("must be the public key of the Telnyx portal: 32 bytes in base64")

    @property
    def account_ref(self) -> str:
        """A fingerprint of the key: Telnyx has no account id to ask for."""
        return f"telnyx-{sha256(self.api_key.get_secret_value().encode()).hexdigest()[:16]}"

    @property
    def can_verify_webhooks(self) -> bool:
        """Whether the public key is among them."""
        return self.public_key is not None
