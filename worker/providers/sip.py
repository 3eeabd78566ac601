"""Any SIP carrier: no API to ask, nothing on its side to touch, ownership that is only asserted.

The customer sets the carrier side; the import's answer says what to. Who may call the LiveKit trunk
is decided by the login or the addresses that the import brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from worker.domain.calls import Forward
from worker.domain.job import Attempt
from worker.domain.values import (
    E164,
    NOWHERE,
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
from worker.providers._core import Credentials, Record, Webhooks
from worker.settings import Settings


class SipCredentials(Credentials):
    """None: a carrier's SIP login belongs to the import's ``sip`` settings."""

    @property
    def account_ref(self) -> str:
        """All carriers alike: nobody is called, so nobody limits us."""
        return "sip"

    @property
    def can_verify_webhooks(self) -> bool:
        """A carrier sends none."""
        return False


class Sip:
    """A carrier of which we know nothing but what the customer says; makes no call at all."""

    name: ClassVar[ProviderName] = ProviderName.SIP
    webhooks: ClassVar[Webhooks | None] = None
    credentials_model: ClassVar[type[Credentials]] = SipCredentials
    ownership: ClassVar[Ownership] = Ownership.ASSERTED
    modes: ClassVar[frozenset[RoutingMode]] = frozenset({RoutingMode.SIP_TRUNK})
    #: A carrier answers a challenge with the login that the customer gave us and it.
    authenticating_modes: ClassVar[frozenset[RoutingMode]] = frozenset({RoutingMode.SIP_TRUNK})
    number_id_shape: ClassVar[str] = "(?!)"  # a carrier has no ids of numbers

    @classmethod
    def connect(cls, credentials: Credentials, settings: Settings, attempt: Attempt) -> Self:
        """Returns an adapter; there is nothing to connect to."""
        del credentials, settings, attempt
        return cls()

    @classmethod
    def notes(cls, mode: RoutingMode, *, sms: bool) -> tuple[str, ...]:
        """Returns what only the customer can do."""
        del mode, sms
        note = (
            "Nothing was changed at the carrier: set its trunk to what `carrier` says. That the "
            "number is yours is recorded as asserted, not as proven."
        )
        return (note,)

    def signalling_addresses(self) -> tuple[str, ...]:
        """Returns nothing: only the customer knows them."""
        return ()

    def verify_credentials(self, mode: RoutingMode) -> Account:
        """Returns that nothing was proven."""
        del mode
        return Account(id="sip", credential_kind="none")

    def find_number(self, number: E164, number_id: str | None) -> OwnedNumber:
        """Returns the number as the customer asserts it."""
        del number_id
        return OwnedNumber(
            id=number,
            e164=number,
            country=number.region,
            voice=True,
            sms=False,
            routing=Routing(parts={"voice": {}}),
        )

    def list_numbers(self, following: str | None, *, limit: int) -> NumberListing:
        """Returns nothing: a carrier lists nothing."""
        del following, limit
        return NumberListing(numbers=(), following=None)

    def advise(self, number: OwnedNumber, *, sms: bool) -> tuple[str, ...]:
        """Returns nothing: there is nothing to look up."""
        del number, sms
        return ()

    def answer_url(self, fields: Fields) -> Forward | None:
        """Returns None: what the carrier does is not ours to see."""
        del fields
        return None

    def read_routing(self, number_id: str) -> Routing | None:
        """Returns the empty routing: what the carrier does is not ours to see."""
        del number_id
        return Routing(parts={"voice": {}})

    def target(self, part: str, fields: Fields) -> Target:
        """Returns nowhere."""
        del part, fields
        return NOWHERE

    def plan_webhooks(
        self, urls: CallbackUrls, objects: Objects, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns nothing to write."""
        del urls, objects, sms
        return {}

    def plan_voice(self, mode: RoutingMode, urls: CallbackUrls, objects: Objects) -> Fields:
        """Returns nothing to write."""
        del mode, urls, objects
        return {}

    def write_routing(self, number_id: str, fields: Fields) -> None:
        """Writes nothing."""
        assert not fields, f"there is nothing to write to {number_id}"

    def prepare_application(
        self, tag: ImportTag, mode: RoutingMode, urls: CallbackUrls, *, sms: bool, record: Record
    ) -> Objects:
        """Returns {}: there is no application."""
        del tag, mode, urls, sms, record
        return {}

    def remove_application(self, tag: ImportTag, objects: Objects) -> None:
        """Does nothing: there is no application."""

    def prepare_trunk(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Returns nothing: the customer makes the carrier's trunk."""
        del tag, plan, record
        return ProviderTrunk(objects={}, termination_address=None)

    def planned_objects(
        self, mode: RoutingMode, urls: CallbackUrls, trunk: TrunkPlan | None, *, sms: bool
    ) -> Mapping[str, Fields]:
        """Returns nothing: nothing is made."""
        del mode, urls, trunk, sms
        return {}

    def read_objects(self, tag: ImportTag, objects: Objects) -> Mapping[str, Fields | None]:
        """Returns nothing: nothing was made."""
        del tag, objects
        return {}

    def remove_trunk(self, tag: ImportTag, objects: Objects) -> None:
        """Does nothing: the carrier's trunk is the customer's."""
