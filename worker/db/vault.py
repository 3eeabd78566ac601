"""The vault: everything secret is sealed here before it reaches a table.

Fernet is AES-128-CBC with HMAC-SHA256: https://cryptography.io/en/latest/fernet/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr


class VaultKeyMissingError(Exception):
    """No configured key opens a value: one was removed before `trunkline keys rotate`."""


class Vault:
    """Seals with the first key, opens with any."""

    def __init__(self, keys: Iterable[SecretStr]) -> None:
        """Raises ValueError if a key is not 32 url-safe base64 bytes (`trunkline keys new`)."""
        self._fernet = MultiFernet([Fernet(key.get_secret_value()) for key in keys])

    def seal(self, secrets: Mapping[str, Any]) -> bytes:
        """Returns JSON data encrypted for a ``sealed`` column."""
        return self._fernet.encrypt(json.dumps(secrets, separators=(",", ":")).encode())

    def open(self, sealed: bytes) -> dict[str, Any]:
        """Returns what :meth:`seal` was given.

        Raises:
            VaultKeyMissingError: no configured key fits.
        """
        try:
            data: dict[str, Any] = json.loads(self._fernet.decrypt(sealed))
        except InvalidToken:
            raise VaultKeyMissingError(
                "no key in TRUNKLINE_VAULT_KEYS opens this value; add the key it was sealed with"
            ) from None
        return data

    def reseal(self, sealed: bytes) -> bytes:
        """Returns the same secrets sealed with the first key.

        Raises:
            VaultKeyMissingError: no configured key fits.
        """
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken:
            raise VaultKeyMissingError(
                "no key in TRUNKLINE_VAULT_KEYS opens this value; add the key it was sealed with"
            ) from None
