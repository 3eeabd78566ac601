"""The contract that every provider adapter keeps, and what adapters share.

An adapter turns these calls into its vendor's API and nothing else: it keeps no state, decides no
policy and never sees the database. The steps hold the policy, once, for every provider.

Rules for all methods:

- Every call is bounded by the connect and read timeouts of the settings, and asks
  ``attempt.lease.require(call_seconds)`` first, so that a worker that was given up for dead cannot
  write any more.
- Every request carries ``X-Trunkline-Attempt``: import, step and attempt, for support cases.
- An SDK exception never leaves the adapter. It becomes a ``TransientError`` or ``PermanentError``
  (raised ``from None`` where the cause may hold a credential). "Could not look up" is never
  "absent".
- A read may be retried inside the call for short network faults; a write is sent once, unless it
  certainly never left this machine (connection refused). A write without an answer raises
  ``TransientError(outcome_unknown=True)``.
- Objects are found by the exact name of the tag before they are created; if an earlier attempt left
  several, the oldest is adopted and the others are deleted.
- A vendor's *delete number* is never called: it gives the customer's number away.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final, Protocol, Self

from pydantic import BaseModel, ConfigDict, SecretStr
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from worker.domain.calls import Answer, CallbackKind, CallbackRequest, Event, Forward
from worker.domain.errors import TransientError
from worker.domain.job import Attempt
from worker.domain.values import (
    E164,
    Account,
    CallbackUrls,
    Fields,
    ImportTag,
    NumberListing,
    Objects,
    OwnedNumber,
    Ownership,
    ProviderName,
    ProviderTrunk,
    Routing,
    RoutingMode,
    Target,
    TrunkPlan,
)
from worker.settings import Settings

#: Called with ids of outside objects as soon as they are known, before anything depends on them.
Record = Callable[[Objects], None]

#: A number as vendors write it: bare, with a plus, in a SIP address or behind a channel's name.
_NUMBER: Final = re.compile(r"(?:[a-z]+:)?\+?([0-9]{7,15})(?:@.*)?")


class Credentials(BaseModel, ABC):
    """What a customer gives us to act at a provider; adapters subclass it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @property
    @abstractmethod
    def account_ref(self) -> str:
        """The vendor's id of the account: not a secret, and what rate limits are counted by."""

    @property
    @abstractmethod
    def can_verify_webhooks(self) -> bool:
        """Whether signatures on the vendor's webhooks can be checked with these."""

    def reveal(self) -> dict[str, str]:
        """Returns the plain values, for the vault only."""
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in self
            if value is not None
        }


class Webhooks(Protocol):
    """A vendor's webhook requests: their signatures, what they say, and how they are answered.

    Pure: no call is made, and nothing of a request is ever logged.
    """

    def verify(self, credentials: Credentials, request: CallbackRequest) -> bool:
        """Whether the vendor signed the request for this account; False on any doubt."""

    def sign(self, credentials: Credentials, request: CallbackRequest) -> Mapping[str, str] | None:
        """Returns the headers that the vendor would sign the request with.

        None where only the vendor holds the key.
        """

    def numbers(self, request: CallbackRequest) -> frozenset[str] | None:
        """Returns the digits of the numbers of which one must be the number it was sent for.

        None where that cannot be told: a recording, a number that is withheld.

        Raises:
            InvalidRequest: it is signed, but cannot be read.
        """

    def call(self, sender: str, number: str) -> tuple[str, bytes]:
        """Returns content type and body of the vendor's voice request for a call.

        Both numbers are E.164. For the self-test: as the vendor sends it, complete enough for
        every check of ours.
        """

    def is_answered(self, request: CallbackRequest) -> bool:
        """Whether the dialled call that a "dialed" request reports on was answered."""

    def event(self, kind: CallbackKind, request: CallbackRequest) -> Event | None:
        """Reads a "status", "sms" or "recording" request; None if it reports nothing to keep.

        Raises:
            InvalidRequest: it is signed, but lacks what tells one report from another.
        """

    def render(self, answer: Answer) -> tuple[str, bytes]:
        """Returns content type and body of an answer in the vendor's XML."""


class Provider(Protocol):
    """One vendor account, as the steps use it for one attempt."""

    name: ClassVar[ProviderName]
    #: None where the vendor calls no webhooks.
    webhooks: ClassVar[Webhooks | None]
    credentials_model: ClassVar[type[Credentials]]
    #: How sure we are of who owns a number that an import of this provider found.
    ownership: ClassVar[Ownership]
    modes: ClassVar[frozenset[RoutingMode]]
    #: The modes in which a call that comes through the provider can answer LiveKit's digest
    #: challenge; in the others the inbound trunk admits the provider's addresses instead.
    authenticating_modes: ClassVar[frozenset[RoutingMode]]
    #: Shape of the vendor's ids of numbers, matched as a whole.
    number_id_shape: ClassVar[str]

    @classmethod
    def connect(cls, credentials: Credentials, settings: Settings, attempt: Attempt) -> Self:
        """Returns an adapter for these credentials; makes no call."""

    @classmethod
    def notes(cls, mode: RoutingMode, *, sms: bool) -> tuple[str, ...]:
        """Returns what a caller should know of this mode at this vendor beforehand. Pure."""

    def signalling_addresses(self) -> tuple[str, ...]:
        """Returns the addresses and networks that the vendor's SIP signalling comes from. Pure.

        Empty if the operator has set none and the vendor publishes none.
        """

    def verify_credentials(self, mode: RoutingMode) -> Account:
        """Proves the credentials with the cheapest call that works for their kind.

        Raises:
            InvalidCredentials: the vendor does not accept them.
            InsufficientPermission: genuine, but without a right that every such import needs.
            AccountSuspended: the account is not active.

        Safe to repeat: yes, reads only.
        """

    def find_number(self, number: E164, number_id: str | None) -> OwnedNumber:
        """Finds the number by exact E.164 (and id, if the caller named one) with its whole routing.

        Raises:
            NumberNotOwned: looked up and absent, or the id is another number's.
            NumberNotActive: porting, pending or inactive.
            NumberNotVoiceCapable: it takes no voice calls.

        Safe to repeat: yes, reads only.
        """

    def list_numbers(self, following: str | None, *, limit: int) -> NumberListing:
        """Lists numbers of the account, a page at a time, and who answers each of them now.

        ``limit`` is 1 to 100; a vendor whose pages are smaller gives fewer. ``following`` is what
        the page before said.

        Raises:
            InvalidRequest: ``following`` is nothing that a page said.

        Safe to repeat: yes, reads only.
        """

    def advise(self, number: OwnedNumber, *, sms: bool) -> tuple[str, ...]:
        """Returns what else its owner should know before an import, at the price of more calls.

        Such as an emergency address or a regulatory bundle that is pending, or a service that
        overrides where SMS goes. What cannot be looked up with these credentials is left out.

        Safe to repeat: yes, reads only.
        """

    def answer_url(self, fields: Fields) -> Forward | None:
        """Returns the URL that answers calls under these voice fields, looked up where need be.

        None if no URL does: a trunk, a connection, nothing, or an application that is gone.

        Safe to repeat: yes, reads only.
        """

    def read_routing(self, number_id: str) -> Routing | None:
        """Returns the complete current routing; None if the number has left the account.

        Safe to repeat: yes, reads only.
        """

    def target(self, part: str, fields: Fields) -> Target:
        """Tells where a part sends its traffic: which of the fields wins. Pure.

        ``part`` is "voice", "sms" or "status"; NOWHERE for nothing and for the vendor's own demo
        URLs, which replace nothing of the customer's.
        """

    def plan_webhooks(
        self, urls: CallbackUrls, objects: Objects, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns the fields that make everything but voice ours, by part. Pure.

        ``objects`` are the ids that ``prepare_application`` made. Every field that decides the
        target of a part is in it, also those to be cleared (""). "status" is there only if
        signatures can be checked, "sms" only if wanted; {} if the number itself carries neither.
        """

    def plan_voice(self, mode: RoutingMode, urls: CallbackUrls, objects: Objects) -> Fields:
        """Returns the fields that make voice ours, also those to be cleared. Pure.

        ``objects`` are the ids that ``prepare_application`` and ``prepare_trunk`` made.
        """

    def write_routing(self, number_id: str, fields: Fields) -> None:
        """Writes some fields of a number in one request ("" clears); the caller reads back.

        Raises:
            PermanentError: the vendor refuses the values, or the number has left the account.

        Safe to repeat: yes, the same values again change nothing.
        """

    def prepare_application(
        self, tag: ImportTag, mode: RoutingMode, urls: CallbackUrls, *, sms: bool, record: Record
    ) -> Objects:
        """Creates or adopts what must carry our webhook URLs; {} where the number itself does.

        Raises:
            WebhookSetupFailed: the vendor refuses it.

        Safe to repeat: yes, adopts what an earlier attempt left.
        """

    def remove_application(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes what ``prepare_application`` made for this import, unless another number uses it.

        Safe to repeat: yes, absent is done.
        """

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Creates or adopts the provider-side trunk, its origination and login; moves no number.

        Raises:
            SipTrunkProvisionFailed: the vendor refuses it, or the account may not use trunks.

        Safe to repeat: yes, adopts and completes what an earlier attempt left.
        """

    def planned_objects(
        self, mode: RoutingMode, urls: CallbackUrls, trunk: TrunkPlan | None, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns everything that an import makes at the vendor, and with which settings. Pure.

        Keyed as ``Objects`` are, in the order of making. Fields carry the vendor's names; flags are
        "true" and "false". Left out: passwords, names, ids of each other, and whatever the vendor
        does not show again. ``trunk`` is None for an import without a trunk at the vendor. Equal to
        what ``read_objects`` reads right after the import.
        """

    def read_objects(self, tag: ImportTag, objects: Objects) -> Mapping[str, Fields | None]:
        """Returns the present settings of what an import made; None for what is gone.

        Found by recorded id. The keys are those of ``objects`` that ``planned_objects`` knows, the
        fields at least those that are planned.

        Safe to repeat: yes, reads only.
        """

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes every trunk object of this import, found by recorded id and by name.

        Raises:
            PermanentError: the vendor refuses, such as when somebody attached another number.

        Safe to repeat: yes, absent is done.
        """


def concerned(
    direction: str | None, *, senders: Iterable[object], receivers: Iterable[object]
) -> frozenset[str] | None:
    """Returns the digits of those whose call or message it is; None if one cannot be read.

    Of what comes in the receivers, of what goes out the senders; where the direction is not told,
    the receivers and as many of the senders as can be read.
    """
    ours = senders if direction == "outbound" else receivers
    found = {_digits(text) for text in ours}
    if not found or None in found:
        return None
    if direction not in ("inbound", "outbound"):
        found |= {_digits(text) for text in senders}
    return frozenset(digits for digits in found if digits is not None)


def _digits(text: object) -> str | None:
    match = _NUMBER.fullmatch(text.strip()) if isinstance(text, str) else None
    return None if match is None else match[1]


def retrying(*, attempts: int = 3) -> Retrying:
    """Retries a read on short network faults inside one attempt; the last error is raised as it is.

    A rate limit is not a short fault: it goes up at once, so that the whole account slows down.
    """
    return Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=0.1, max=1),
        retry=retry_if_exception(is_short_fault),
        reraise=True,
    )


def is_short_fault(error: BaseException) -> bool:
    """Whether trying again within a second is worth it: transient and no wait was asked for."""
    return isinstance(error, TransientError) and error.status == 503 and error.retry_after is None  # noqa: PLR2004 -- "unavailable"
