from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from worker.db.vault import Vault, VaultKeyMissingError


def _key() -> SecretStr:
    return SecretStr(Fernet.generate_key().decode())


def test_what_is_sealed_does_not_show_and_comes_back() -> None:
    vault = Vault([_key()])
    sealed = vault.seal({"password": "planted"})
    assert b"planted" not in sealed
    assert vault.open(sealed) == {"password": "planted"}


def test_rotation_makes_the_old_key_dispensable() -> None:
    old, new = _key(), _key()
    sealed = Vault([old]).seal({"a": 1})
    rotated = Vault([new, old]).reseal(sealed)
    assert Vault([new]).open(rotated) == {"a": 1}
    with pytest.raises(VaultKeyMissingError):
        Vault([old]).open(rotated)


def test_a_missing_key_is_named_without_the_value() -> None:
    sealed = Vault([_key()]).seal({"a": "planted"})
    with pytest.raises(VaultKeyMissingError, match="TRUNKLINE_VAULT_KEYS"):
        Vault([_key()]).open(sealed)
    with pytest.raises(VaultKeyMissingError):
        Vault([_key()]).reseal(sealed)
