"""What a step is, and what it gets to work with."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar

from worker.db.claims import Claims
from worker.db.engine import outlast
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers
from worker.db.records import Claim, NumberFacts
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.errors import LeaseLost, TransientError
from worker.domain.job import Attempt, Lease, Retry, StepName
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import Fields, ImportTag, Objects, Routing, format_id
from worker.livekit import LiveKit
from worker.plans import Plan
from worker.providers import PROVIDERS, Credentials, Provider
from worker.settings import Settings

_Result = TypeVar("_Result")
_Value = TypeVar("_Value")

#: Seven waits of 1, 2, 4, … 60 seconds: a vendor may be away for about two minutes.
FORWARD: Final = Retry(attempts=8, first_delay=1, longest_delay=60)
#: Undo tries for about three quarters of an hour before it asks for an operator.
UNDO: Final = Retry(attempts=15, first_delay=1, longest_delay=300)


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a step leaves for later steps and for its undo."""

    output: Mapping[str, Any] = field(default_factory=dict)
    #: The part that goes to the vault.
    secret: Mapping[str, Any] | None = None
    #: What the number is from the end of this step on; of the one step that says so.
    number: NumberFacts | None = None


class Run(Protocol):
    """Does the work of a step; may run again at any point, after any of its calls."""

    def __call__(self, ctx: Context, /) -> Done:
        """Returns what later steps need."""


class Undo(Protocol):
    """Leaves nothing of a step behind, however far its work got; absent is done."""

    def __call__(self, ctx: Context, /) -> None:
        """Returns once it has been verified."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of the pipeline."""

    name: StepName
    run: Run
    undo: Undo
    retry: Retry = FORWARD


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What a worker process holds once: made in tasks.py, handed down."""

    settings: Settings
    jobs: JobRepository
    claims: Claims
    numbers: Numbers
    notifications: Notifications
    vault: Vault


class _kept(Generic[_Value]):  # noqa: N801 -- as functools names it
    """A property that is made on first use: ``functools.cached_property`` of Python 3.12 and later.

    Before, one lock is held for all instances: whoever loads a vendor's SDK, which takes seconds,
    would make the jobs of all vendors wait. Two threads may both make it; one of them is kept.
    """

    def __init__(self, make: Callable[[Any], _Value]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, _owner: type) -> _Value:
        kept: _Value = instance.__dict__.setdefault(self._name, self._make(instance))
        return kept


class Context:
    """Everything that one attempt at one step may touch."""

    def __init__(
        self, runtime: Runtime, claim: Claim, lease: Lease, trace_parent: object = None
    ) -> None:
        self.runtime = runtime
        self.settings = runtime.settings
        self.claim = claim
        self.attempt = Attempt(
            import_id=format_id("imp", claim.job.id),
            step=claim.step,
            number=claim.attempt,
            undo=claim.undo,
            lease=lease,
            trace_parent=trace_parent,
        )
        self.tag = ImportTag(import_id=format_id("imp", claim.job.brought_in_by))

    @_kept
    def spec(self) -> ImportSpec:
        """What the caller asked for."""
        return ImportSpec.from_json(self.claim.job.request)

    @_kept
    def secrets(self) -> ImportSecrets:
        """The secrets of the request, and those that were made for it."""
        return ImportSecrets(**self.runtime.vault.open(self.claim.job.sealed))

    @_kept
    def credentials(self) -> Credentials:
        """The provider's credentials as they are now."""
        model = PROVIDERS[self.spec.provider].credentials_model
        return model(**self.runtime.vault.open(self.claim.credential_sealed))

    @_kept
    def provider(self) -> Provider:
        """The provider's adapter."""
        adapter = PROVIDERS[self.spec.provider]
        return adapter.connect(self.credentials, self.settings, self.attempt)

    @_kept
    def livekit(self) -> LiveKit:
        """The LiveKit adapter."""
        return LiveKit(self.settings, self.attempt, self.tag)

    def record(self, objects: Objects) -> None:
        """Writes down ids of outside objects before anything depends on them.

        Raises:
            LeaseLost: another worker owns the job now.
        """
        # What exists outside by now must be written down if that is possible at all.
        outlast(
            lambda: self.runtime.claims.record_objects(self.claim, objects),
            seconds=self.runtime.settings.lease_seconds,
        )

    @property
    def objects(self) -> Objects:
        """Ids of everything that the job made outside, of all steps."""
        found: dict[str, str] = {}
        for step in self.claim.job.steps.values():
            found |= step.objects
        return found

    @_kept
    def plan(self) -> Plan:
        """Everything that the import wants outside."""
        assert self.claim.job.phone_number_id is not None, "submit claims a number"
        return Plan(
            spec=self.spec,
            secrets=self.secrets,
            settings=self.settings,
            provider=self.provider,
            tag=self.tag,
            number_id=self.claim.job.phone_number_id,
            agent_name=self.claim.agent_dispatch_name,
            fallback_agent_name=self.claim.fallback_dispatch_name,
        )

    def output(self, step: StepName) -> Mapping[str, Any]:
        """What an earlier step found; empty if it never finished."""
        record = self.claim.job.steps.get(step)
        return {} if record is None else record.output

    @property
    def number_id(self) -> str:
        """The vendor's id of the number, known from check_ownership on."""
        number_id: str = self.output(StepName.CHECK_OWNERSHIP)["number_id"]
        return number_id

    @property
    def original(self) -> Routing:
        """The routing that the number had before we touched it."""
        return Routing.from_json(self._before["routing"])

    @property
    def original_bends(self) -> Fields:
        """What bent calls away before we touched the number."""
        bends: Fields = self._before.get("bends", {})
        return bends

    @property
    def _before(self) -> Mapping[str, Any]:
        sealed = self.claim.job.steps[StepName.CHECK_OWNERSHIP].sealed
        assert sealed is not None, "check_ownership seals the routing"
        return self.runtime.vault.open(sealed)


def side_by_side(*calls: Callable[[], _Result]) -> list[_Result]:
    """Runs independent calls at the same time and waits for all of them.

    Raises:
        TrunklineError: of several errors the one that must decide, see ``_rank``.
    """
    if len(calls) < 2:  # noqa: PLR2004 -- nothing to run beside it
        return [call() for call in calls]
    with concurrent.futures.ThreadPoolExecutor(len(calls), thread_name_prefix="half") as pool:
        futures = [pool.submit(call) for call in calls]
        concurrent.futures.wait(futures)
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise min(errors, key=_rank)
    return [future.result() for future in futures]


def _rank(error: BaseException) -> tuple[bool, bool, bool]:
    """Orders errors of calls that ran side by side; the lowest decides.

    A lost lease ends everything. A write that may still land comes before a refusal: undoing at
    once could miss it, while a refusal is met again on the next attempt. What may pass comes last.
    """
    unknown = isinstance(error, TransientError) and error.outcome_unknown
    return (not isinstance(error, LeaseLost), not unknown, isinstance(error, TransientError))
