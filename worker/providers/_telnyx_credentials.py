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
#: Coordinates of Ed25519 are numbers modulo this.
_PRIME: Final = 2**255 - 19
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
#: Public keys of order 1, 2, 4 and 8, which is 8 points, without the sign: anybody can sign for
#: those, so a blank such as AAAA…= would let webhooks of anybody pass. The list is libsodium's:
#: ge25519_has_small_order in src/libsodium/crypto_core/ed25519/ref10/ed25519_ref10.c
_LOW_ORDER: Final = frozenset({0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8})


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
        if value is None:
            return None
        key = b""
        with suppress(binascii.Error, ValueError):
            key = base64.b64decode(value, validate=True)
        if len(key) != KEY_BYTES:
            raise ValueError("must be the public key of the Telnyx portal: 32 bytes in base64")
        if (int.from_bytes(key, "little") & (2**255 - 1)) % _PRIME in _LOW_ORDER:
            raise ValueError(
                "must be the public key of the Telnyx portal: for this one anybody can sign"
            )
        return value

    @property
    def account_ref(self) -> str:
        """A fingerprint of the key: Telnyx has no account id to ask for."""
        return f"telnyx-{sha256(self.api_key.get_secret_value().encode()).hexdigest()[:16]}"

    @property
    def can_verify_webhooks(self) -> bool:
        """Whether the public key is among them."""
        return self.public_key is not None
