"""Looking outside on a caller's behalf: preflight, diagnosis, what an account holds.

The only part of the front door that calls providers and LiveKit. The API gives it threads of its
own, so that a vendor that hangs holds up nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from uuid_utils.compat import uuid7

from worker.checking import Opened, reading
from worker.db.directory import CredentialRecord
from worker.diagnosis import Diagnosis
from worker.domain.access import Caller, Permission
from worker.domain.errors import (
    InvalidRequest,
    NumberAlreadyImported,
    NumberBusy,
    NumberInUse,
    PermanentError,
    SignaturesUnverifiable,
)
from worker.domain.values import (
    NOWHERE,
    ImportTag,
    ListedNumber,
    NumberStatus,
    Ownership,
    ProviderName,
    RoutingMode,
    format_id,
)
from worker.intake import (
    ImportRequest,
    parse_credentials,
    require_verifiable,
    secrets_of,
    spec_of,
    warnings_of,
)
from worker.livekit import LiveKit
from worker.plans import Plan
from worker.preflight import Preflight, look
from worker.providers import PROVIDERS, Credentials, Provider
from worker.service._core import Part

#: Numbers of which one must be in the account that a new credential opens.
_SAMPLE: Final = 5


@dataclass(frozen=True, kw_only=True)
class AccountNumber:
    """A number of a provider's account, and whether it could be imported as it is."""

    number: ListedNumber
    refusal: PermanentError | None


@dataclass(frozen=True, kw_only=True)
class AccountNumbers:
    """One page of an account's numbers."""

    numbers: tuple[AccountNumber, ...]
    following: str | None


class Checks(Part):
    """Requests that are answered by looking outside; none of them writes there."""

    def preflight(self, caller: Caller, request: ImportRequest) -> Preflight:
        """Tells what an import would do and everything that would refuse it; stores nothing.

        Raises:
            InvalidRequest: it is no import at all.
            TransientError: the provider or LiveKit cannot be asked right now.

        Safe to repeat: yes, reads only.
        """
        caller.require(Permission.CREATE_NUMBERS)
        spec = spec_of(request, self._settings)
        found = Preflight()
        agent = fallback = None
        with found.noting(None):
            agent = self._agent(caller, spec.agent_id)
        with found.noting(None):
            fallback = self._agent(caller, spec.fallback_agent_id)
        with found.noting(None):
            self._user(caller, spec.user_id)
        credentials = self._given(caller, request, found)
        if spec.ownership is Ownership.PROVEN and self._numbers.taken([spec.phone_number]):
            found.refuse(NumberAlreadyImported(), None)
        if credentials is None:
            return found
        with found.noting(None):
            require_verifiable(spec, credentials)
        found.warn(warnings_of(spec, credentials))
        number_id = uuid7()
        attempt = reading(format_id("num", number_id), "preflight")
        tag = ImportTag(import_id=format_id("imp", uuid7()))
        plan = Plan(
            spec=spec,
            secrets=secrets_of(request, spec, self._settings),
            settings=self._settings,
            provider=PROVIDERS[spec.provider].connect(credentials, self._settings, attempt),
            tag=tag,
            number_id=number_id,
            agent_name=self._directory.agent_dispatch_name(agent),
            fallback_agent_name=self._directory.agent_dispatch_name(fallback),
        )
        return look(plan, LiveKit(self._settings, attempt, tag), found)

    def check_number(self, caller: Caller, number_id: str) -> Diagnosis:
        """Compares everything outside with what was set, and writes down what it found.

        Raises:
            NotFound: the caller's organisation has no such number.
            NumberBusy: it is being released.
            TransientError: something cannot be looked at right now.

        Safe to repeat: yes.
        """
        caller.require(Permission.CREATE_NUMBERS)
        number = self._number(caller, number_id)
        if number.status is not NumberStatus.ACTIVE:
            raise NumberBusy("The number is being released.")
        setup = self._setup(number)
        diagnosis = Opened(setup, settings=self._settings, vault=self._vault, doing="check").check()
        self._numbers.note_check(
            setup, diagnosis.to_json(), again_in=self._settings.check_seconds or None
        )
        return diagnosis

    def list_account_numbers(
        self, caller: Caller, credential_id: str, *, limit: int, cursor: str | None
    ) -> AccountNumbers:
        """Lists the numbers of a provider's account, and which could be imported as they are.

        Raises:
            CredentialNotFound: there is none.
            CredentialNotOwned: it is another organisation's.
            InvalidRequest: the cursor is none of this account's pages.
            PermanentError: the provider does not accept the credentials any more.
            TransientError: the provider cannot be asked right now.

        Safe to repeat: yes, reads only.
        """
        caller.require(Permission.CREATE_NUMBERS)
        record = self._owned_credential(caller, credential_id)
        page = self._connected(record, "list").list_numbers(cursor, limit=limit)
        taken = self._numbers.taken([number.phone_number for number in page.numbers])
        return AccountNumbers(
            numbers=tuple(
                AccountNumber(number=number, refusal=_refusal(number, taken))
                for number in page.numbers
            ),
            following=page.following,
        )

    def rotate_credential(
        self,
        caller: Caller,
        credential_id: str,
        *,
        credentials: Mapping[str, Any] | None,
        label: str | None,
        overlap_seconds: int,
    ) -> tuple[CredentialRecord, list[str]]:
        """Replaces the secrets of an account, once the provider accepts the new ones.

        Its numbers need no new import: trunks, checks and signatures use the new secrets from now
        on. Signatures made with the replaced ones are good for ``overlap_seconds`` more, so that a
        token can be given here before it is made the primary one. Returns warnings, too.

        Raises:
            CredentialNotFound: there is none.
            CredentialNotOwned: it is another organisation's.
            InvalidRequest: malformed, or secrets of another account.
            PermanentError: the provider does not accept them, or they cannot do what the present
                ones do; nothing was changed.
            TransientError: the provider cannot be asked right now; nothing was changed.

        Safe to repeat: yes.
        """
        caller.require(Permission.CREATE_NUMBERS)
        record = self._owned_credential(caller, credential_id)
        warnings: list[str] = []
        values: dict[str, Any] = {} if label is None else {"label": label}
        if credentials is not None:
            parsed = parse_credentials(ProviderName(record.provider), credentials)
            warnings = self._require_as_good(record, parsed, overlap_seconds)
            # The same once more must not push out the secret that is still good.
            if parsed.reveal() != self._vault.open(record.sealed):
                values |= {
                    "account_ref": parsed.account_ref,
                    "sealed": self._vault.seal(parsed.reveal()),
                    "overlap_seconds": overlap_seconds,
                }
        self._directory.rotate_credential(record.id, **values)
        self._audit(caller, "credential.rotate", format_id("cred", record.id))
        return self._owned_credential(caller, credential_id), warnings

    def _require_as_good(
        self, record: CredentialRecord, parsed: Credentials, overlap_seconds: int
    ) -> list[str]:
        """Makes sure that new credentials open the same account and do what the old ones do."""
        before = PROVIDERS[ProviderName(record.provider)].credentials_model(
            **self._vault.open(record.sealed)
        )
        numbers = self._numbers.of_credential(record.id)
        called_back = [one for one in numbers if one.routing_mode == RoutingMode.WEBHOOK]
        if before.can_verify_webhooks and not parsed.can_verify_webhooks and numbers:
            raise SignaturesUnverifiable(
                "Webhooks of this account's numbers could no longer be verified: give what the "
                "present credentials have, too (auth token or public key)."
            )
        provider = self._connect(record.provider, parsed, format_id("cred", record.id), "rotate")
        warnings: list[str] = []
        modes = {RoutingMode(one.routing_mode) for one in numbers} or {RoutingMode.WEBHOOK}
        for mode in sorted(modes):
            try:
                warnings += provider.verify_credentials(mode).warnings
            except SignaturesUnverifiable:
                if called_back and not overlap_seconds:
                    raise
                warnings.append(
                    "This is not the account's primary auth token yet. Make it the primary one "
                    f"within {overlap_seconds} seconds: until then calls signed with the replaced "
                    "one are answered, too."
                )
        same = parsed.account_ref == before.account_ref or any(
            one.provider_number_id and provider.read_routing(one.provider_number_id) is not None
            for one in numbers[:_SAMPLE]
        )
        if not same and (numbers or record.provider != ProviderName.TELNYX):
            raise InvalidRequest(
                "These credentials open another account. Store them as a credential of their own."
            )
        return list(dict.fromkeys(warnings))

    def _given(
        self, caller: Caller, request: ImportRequest, found: Preflight
    ) -> Credentials | None:
        """The request's credentials, if they can be had."""
        with found.noting(None):
            return self._credential(caller, request)[2]
        return None

    def _connected(self, record: CredentialRecord, doing: str) -> Provider:
        model = PROVIDERS[ProviderName(record.provider)].credentials_model
        credentials = model(**self._vault.open(record.sealed))
        return self._connect(record.provider, credentials, format_id("cred", record.id), doing)

    def _connect(
        self, provider: str, credentials: Credentials, subject: str, doing: str
    ) -> Provider:
        adapter = PROVIDERS[ProviderName(provider)]
        return adapter.connect(credentials, self._settings, reading(subject, doing))


def _refusal(number: ListedNumber, taken: set[str]) -> PermanentError | None:
    """Why a number cannot be imported as it is."""
    if number.phone_number in taken:
        return NumberAlreadyImported("This number is already imported, or being imported.")
    if number.refusal is None and number.target != NOWHERE:
        return NumberInUse()
    return number.refusal
