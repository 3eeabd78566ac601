"""Stored provider accounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.db.directory import CredentialRecord
from worker.domain.access import Caller, Permission
from worker.domain.errors import CredentialNotFound
from worker.domain.values import ProviderName, format_id
from worker.intake import parse_credentials
from worker.service._core import Part, cursor_of


class CredentialRequests(Part):
    """Requests about stored provider accounts."""

    def create_credential(
        self, caller: Caller, *, provider: ProviderName, credentials: Mapping[str, Any], label: str
    ) -> CredentialRecord:
        """Stores a provider account; its secrets can never be read again.

        Raises:
            InvalidRequest: a field is missing, unknown or malformed.
        """
        caller.require(Permission.CREATE_NUMBERS)
        parsed = parse_credentials(provider, credentials)
        credential_id = self._directory.create_credential(
            caller.organization_id,
            provider=provider,
            account_ref=parsed.account_ref,
            label=label,
            sealed=self._vault.seal(parsed.reveal()),
        )
        text = format_id("cred", credential_id)
        self._audit(caller, "credential.create", text)
        return self._owned_credential(caller, text)

    def get_credential(self, caller: Caller, credential_id: str) -> CredentialRecord:
        """Returns a credential without its secrets.

        Raises:
            CredentialNotFound: there is none.
            CredentialNotOwned: it is another organisation's.
        """
        caller.require(Permission.READ)
        return self._owned_credential(caller, credential_id)

    def list_credentials(
        self, caller: Caller, *, limit: int, cursor: str | None
    ) -> list[CredentialRecord]:
        """Returns the organisation's stored credentials, newest first."""
        caller.require(Permission.READ)
        return self._directory.list_credentials(
            caller.organization_id, limit=limit, before=cursor_of("cred", cursor)
        )

    def delete_credential(self, caller: Caller, credential_id: str) -> None:
        """Forgets a credential's secrets.

        Raises:
            CredentialNotFound: there is none.
            CredentialNotOwned: it is another organisation's.
            CredentialInUse: a number or an unfinished import needs it.
        """
        caller.require(Permission.CREATE_NUMBERS)
        record = self._owned_credential(caller, credential_id)
        self._directory.delete_credential(record.id)
        self._audit(caller, "credential.delete", format_id("cred", record.id))

    def stored_account(self, caller: Caller, provider: ProviderName) -> str:
        """Returns the id of the account that the organisation stored last for a provider.

        Raises:
            CredentialNotFound: it has stored none.
        """
        caller.require(Permission.READ)
        found = self._directory.newest_credential(caller.organization_id, provider)
        if found is None:
            raise CredentialNotFound(
                f"This organisation has stored no {provider} account. Store one with "
                "POST /v1/credentials."
            )
        return format_id("cred", found)
