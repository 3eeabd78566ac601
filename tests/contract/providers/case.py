"""What a provider's harness tells the suite: its vendor's words, and nothing the suite asserts.

A new provider adds one module to ``cases`` with a ``CASE`` that fits :class:`ProviderCase`. What a
provider cannot do is a reason in words, which the suite asserts too, not a skipped test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from worker.domain.errors import PermanentError
from worker.domain.values import ImportTag, ProviderName, ProviderTrunk, RoutingMode, TrunkPlan

#: The vendor's part of the sandbox's state.
State = Mapping[str, object]
#: A document for the sandbox's seed or edit, without the vendor's name.
Document = Mapping[str, object]
#: Kind of outside object → the ids there are.
Made = Mapping[str, frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class CredentialExample:
    """Credentials, and what proving them says."""

    id: str
    fields: Mapping[str, str]
    #: The kind that is proven, or the error.
    expected: str | type[PermanentError]
    mode: RoutingMode = RoutingMode.WEBHOOK
    #: A word of each warning that must be given.
    warnings: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class NumberExample:
    """A number to look for, and what is found."""

    id: str
    number: str
    expected: type[PermanentError] | None = None
    number_id: str | None = None
    sms: bool = True


@dataclass(frozen=True, kw_only=True)
class RoutingExample:
    """A number's settings as a customer may have left them."""

    id: str
    #: What is edited by hand, in the vendor's words.
    settings: Mapping[str, object]
    #: Part → kind of target that wins.
    targets: Mapping[str, str] = field(default_factory=dict)


class ProviderCase(Protocol):
    """One provider in the suite."""

    name: ProviderName
    #: The vendor's name in the sandbox.
    vendor: str
    #: Credentials that may do everything; the account behind them holds `number`.
    good: Mapping[str, str]
    #: An owned number that may be changed, and its id.
    number: str
    number_id: str
    #: Values of the seed that no log line and no error may show.
    secrets: Sequence[str]
    credentials: Sequence[CredentialExample]
    numbers: Sequence[NumberExample]
    routings: Sequence[RoutingExample]
    #: Why there is no trunk at the provider's side; None if there is one.
    no_trunk_because: str | None
    #: Why each part of a routing takes a request of its own; None if one request writes them all.
    parts_apart_because: str | None
    #: Seconds that a 429 asks for by a header of the vendor's own where Retry-After says nothing.
    rate_limit_wait: float | None
    #: Operations of the sandbox that give a number away or buy one; nobody may call them.
    forbidden: Sequence[str]

    def settings(self, url: str) -> Mapping[str, object]:
        """Returns the settings that lead the adapter to the sandbox."""

    def seed(self) -> Document:
        """Returns the accounts that the examples speak of."""

    def edit(self, settings: Mapping[str, object]) -> Document:
        """Returns what changes `number` by hand; ``remove`` takes it out of the account."""

    def number_state(self, state: State) -> object:
        """Returns everything the vendor knows of `number`."""

    def made(self, state: State) -> Made:
        """Returns all objects of the account that a trunk may consist of, and applications."""

    def check_trunk(
        self, state: State, tag: ImportTag, plan: TrunkPlan, trunk: ProviderTrunk
    ) -> None:
        """Asserts that what the trunk's ids lead to does what was planned."""

    def duplicates(self, tag: ImportTag) -> Document:
        """Returns a seed of two more objects that carry the tag's name; the first is the older."""

    def oldest_duplicate(self) -> str:
        """Returns the id of the first of them."""

    def use_trunk(self, trunk: ProviderTrunk) -> Document:
        """Returns an edit that puts a number of the customer's on the trunk."""

    def free_trunk(self) -> Document:
        """Returns an edit that takes it off again."""
