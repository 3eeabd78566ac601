"""Jobs: their kinds and states, the transitions between them, and one attempt at a step.

An import:

             ┌────────┐ first step begins ┌─────────┐ last step done  ┌────────┐
submit ─────▶│ queued │──────────────────▶│ running │────────────────▶│ active │
             └────────┘                   └─────────┘                 └────────┘
               │    ▲ retry of a failed      │ a step failed for good, or cancel
        cancel │    │ or cancelled import    ▼
               │    └───────────────┐    ┌─────────┐ undo failed for good ┌───────┐
               └────────────────────│───▶│ undoing │─────────────────────▶│ stuck │
                                    │    └─────────┘◀─────────────────────└───────┘
                                    │      │     │      retry by an operator
                                ┌────────┐ │     │ ┌───────────┐
                                │ failed │◀┘     └▶│ cancelled │
                                └────────┘         └───────────┘

A release begins undoing, and ends released or stuck. A repair or a rebinding of an active number is
queued, runs, and ends active, or failed: then it leaves everything to the next one, and nothing is
undone, since the number goes on answering.

While releases change, two of them work side by side, and one may read what the other wrote. A job
goes on from its cursor in the plan of whoever goes on with it; what it has not begun it need not
undo. A job of which a release does not know every word is not its own: it shows it, and leaves it
to the release that does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeVar

from worker.domain.errors import LeaseLost
from worker.domain.values import ProviderName


class JobKind(StrEnum):
    """What a job does to its number."""

    #: Brings a number in; failing, it leaves no trace.
    IMPORT = "import"
    #: Gives a number back as it was before its import.
    RELEASE = "release"
    #: Sets everything outside again as it is meant to be.
    REPAIR = "repair"
    #: Gives inbound calls to another agent, or changes how they reach it.
    REBIND = "rebind"


#: Jobs on an active number that leave it active, however they end.
CHANGES: Final = frozenset({JobKind.REPAIR, JobKind.REBIND})


class JobState(StrEnum):
    """Where a job is; waiting for a retry is RUNNING (or UNDOING) with a next attempt time."""

    #: Accepted and stored; the first step's first claim moves it on.
    QUEUED = "queued"
    #: Steps are being done; the last step, a failure or a cancellation moves it on.
    RUNNING = "running"
    #: Every step is done and the number is ours to answer. Final.
    ACTIVE = "active"
    #: What was done is being undone, in reverse; the last undo moves it on.
    UNDOING = "undoing"
    #: A step failed and everything was undone. Final, until somebody retries.
    FAILED = "failed"
    #: The caller cancelled and everything was undone. Final, until somebody retries.
    CANCELLED = "cancelled"
    #: Undo gave up; an operator must look. Only a retry moves it on.
    STUCK = "stuck"
    #: The number was given back. Final.
    RELEASED = "released"


#: State → the states it may move to. The repository's ``move`` is the only one to act on it.
TRANSITIONS: Final = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.UNDOING}),
    JobState.RUNNING: frozenset({JobState.ACTIVE, JobState.UNDOING, JobState.FAILED}),
    JobState.UNDOING: frozenset(
        {JobState.FAILED, JobState.CANCELLED, JobState.STUCK, JobState.RELEASED}
    ),
    JobState.STUCK: frozenset({JobState.UNDOING}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
    JobState.ACTIVE: frozenset[JobState](),
    JobState.RELEASED: frozenset[JobState](),
}
assert TRANSITIONS.keys() == set(JobState), "a state has no row in TRANSITIONS"

#: Nothing moves these on by itself: pollers may stop.
FINAL: Final = frozenset(
    {JobState.ACTIVE, JobState.FAILED, JobState.CANCELLED, JobState.STUCK, JobState.RELEASED}
)


#: States of a job that still works on its number, or waits for an operator to let it.
OPEN: Final = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.UNDOING, JobState.STUCK})


class StepName(StrEnum):
    """A step's name: also its file, its cursor in the database, its task name and its log field."""

    VALIDATE_CREDENTIALS = "validate_credentials"
    CHECK_OWNERSHIP = "check_ownership"
    CONFIGURE_WEBHOOKS = "configure_webhooks"
    PROVISION_TRUNKS = "provision_trunks"
    CREATE_DISPATCH_RULE = "create_dispatch_rule"
    ROUTE_NUMBER = "route_number"
    PERSIST_NUMBER = "persist_number"


#: Former name of a step → its name now. Rows and messages of the release before hold the former
#: one; a line may go once a migration has renamed the rows and no such message can be left.
FORMER_NAMES: Final[Mapping[str, StepName]] = {}
assert not FORMER_NAMES.keys() & set(StepName), "a former name is a step's name again"

#: Kind → the steps that its jobs do, or, for a release, undo. The order is always the same.
PLANS: Final = {
    JobKind.IMPORT: tuple(StepName),
    JobKind.RELEASE: tuple(StepName),
    JobKind.REPAIR: tuple(StepName),
    JobKind.REBIND: (StepName.CREATE_DISPATCH_RULE, StepName.PERSIST_NUMBER),
}
assert PLANS.keys() == set(JobKind), "a kind of job has no steps"


class StepState(StrEnum):
    """Where one step of a job is."""

    #: Not begun.
    WAITING = "waiting"
    #: An attempt has begun; it may be waiting for the next one.
    RUNNING = "running"
    #: Its work is done.
    DONE = "done"
    #: It failed for good; its undo comes next.
    FAILED = "failed"
    #: Its undo has begun.
    UNDOING = "undoing"
    #: Nothing of it is left.
    UNDONE = "undone"
    #: Its undo gave up.
    STUCK = "stuck"


_Word = TypeVar("_Word", bound=StrEnum)


def read_word(kind: type[_Word], text: str) -> _Word:
    """Returns a word of the database; one that only a newer release knows is returned as it is.

    That one equals no member, so it stands in no table either: whoever would act on it must have
    looked there first, see ``JobRecord.is_understood``.
    """
    try:
        return kind(text)
    except ValueError:
        word = str.__new__(kind, text)
        word._name_, word._value_ = text.upper(), text
        return word


def read_step_name(text: str) -> StepName:
    """Returns the step that a row or a message means, by whatever name."""
    return FORMER_NAMES.get(text) or read_word(StepName, text)


def stored_names(step: StepName) -> tuple[str, ...]:
    """Returns every name under which the database may hold a step."""
    return (step, *(former for former, now in FORMER_NAMES.items() if now is step))


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a step is tried, and how long it waits in between.

    The wait before attempt n + 1 is ``first_delay * 2 ** (n - 1)`` seconds, at most
    ``longest_delay``, then spread over 50–100 % of itself. With 2 and 60: about 2, 4, 8, 16, 32,
    60, 60 seconds.
    """

    attempts: int
    first_delay: float
    longest_delay: float

    def delay(self, attempt: int, *, spread: float) -> float:
        """Returns the seconds to wait after a failed attempt (1, 2, …); spread is 0.0 to 1.0."""
        whole: float = min(self.first_delay * 2 ** (attempt - 1), self.longest_delay)
        return whole * (0.5 + spread / 2)


class Lease:
    """The right of one worker to work on a job until a deadline, which a heartbeat moves.

    The deadline is read from this machine's monotonic clock, taken before the database granted the
    lease, so it never lies later than what the database thinks.
    """

    def __init__(
        self,
        *,
        seconds: float,
        granted_at: float | None = None,
        renew: Callable[[], None] | None = None,
    ) -> None:
        self._deadline = (time.monotonic() if granted_at is None else granted_at) + seconds
        self._renew = renew

    def extend(self, *, seconds: float, granted_at: float) -> None:
        """Moves the deadline after a successful heartbeat that started at granted_at."""
        self._deadline = max(self._deadline, granted_at + seconds)

    def revoke(self) -> None:
        """Ends the lease at once: the database says that somebody else owns the job."""
        self._deadline = float("-inf")

    def require(self, seconds: float) -> None:
        """Makes sure that a call that may take this many seconds ends within the lease.

        Raises:
            LeaseLost: it might not; a successor could then act at the same time.
        """
        if self._lasts(seconds):
            return
        # A busy machine may have held up the heartbeat: ask the database before giving up.
        if self._renew is not None:
            self._renew()
        if not self._lasts(seconds):
            raise LeaseLost

    def _lasts(self, seconds: float) -> bool:
        return time.monotonic() + seconds <= self._deadline


class JobQueue(NamedTuple):
    """Which of the broker's queues a job's messages go through."""

    provider: str
    #: Whether it waits for others of its organisation.
    backlog: bool


#: A vendor that is slow holds up its own: workers take from all queues in turns.
JOB_QUEUES: Final = tuple(
    JobQueue(provider, backlog) for provider in ProviderName for backlog in (False, True)
)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a step or at its undo: who asks, for logs and vendors, under which lease."""

    #: The job that asks; or, for what is done without one, the number or the credential.
    import_id: str
    #: The step's name; or what is done without one, such as "check".
    step: str
    number: int
    lease: Lease
    undo: bool = False
    #: What its requests are shown within (:mod:`worker.tracing`); None if nobody traces.
    trace_parent: object = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        undo = ".undo" if self.undo else ""
        return f"{self.import_id}/{self.step}{undo}/{self.number}"
