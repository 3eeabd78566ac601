"""What may happen, in any order: the rules of the model, and how each example is brought to rest.

Numbers that rules draw are places in a list, taken modulo its length, so that what is drawn never
depends on what the database says: a failing example can be repeated and made smaller.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from uuid_utils.compat import uuid7

from tests.model.hands import DEADLY, LOSING, Clock, Fate, Worker
from tests.model.judge import Judge
from tests.model.outside import KINDS, PARTS, Outside
from tests.model.stage import NUMBERS, Stage
from tests.model.steps import RETRY, make_steps
from worker.db.batches import NewBatch, NewRow
from worker.db.places import UNDO_PLACES
from worker.db.records import NewChange
from worker.domain.errors import (
    InvalidState,
    NotFound,
    NumberAlreadyImported,
    NumberBusy,
    TrunklineError,
)
from worker.domain.job import (
    CHANGES,
    JOB_QUEUES,
    PLANS,
    JobKind,
    JobQueue,
    JobState,
    StepName,
)
from worker.domain.spec import ImportSpec
from worker.domain.values import NumberStatus, format_id
from worker.steps._core import UNDO, Context, Step
from worker.steps._guard import Failed, Guard, Held, Next, RetryIn

_Item = TypeVar("_Item")

#: Workers that wait in the middle of a step at the same time.
_MOST_WORKERS: Final = 5
#: A job at rest needs one message, or one a wait; nothing waits longer than this many rounds.
_MOST_ROUNDS: Final = 12
#: Longer than any wait.
_ROUND_SECONDS: Final = 400.0
_ORDER: Final = tuple(StepName)

places = st.integers(0, 63)
fates = st.sampled_from(Fate)


@dataclass(frozen=True, kw_only=True)
class Message:
    """What the broker carries: a job, and what of its chain is left."""

    job_id: UUID
    undo: bool
    steps: tuple[StepName, ...]


@dataclass
class Tally:
    """How much was driven."""

    examples: int = 0
    rested: int = 0
    rules: int = 0
    messages: int = 0
    writes: int = 0


class Model(RuleBasedStateMachine):
    """One example: an empty database, an outside with four numbers, and everything at once."""

    def __init__(self, stage: Stage, clock: Clock, tally: Tally) -> None:
        super().__init__()
        stage.empty()
        self.stage, self.clock, self.tally = stage, clock, tally
        self.outside = Outside(clock=clock, objection=self._objection)
        self.originals = {
            e164: {part: f"theirs:{e164}/{part}" for part in PARTS} for e164 in NUMBERS
        }
        self.outside.numbers = {e164: dict(parts) for e164, parts in self.originals.items()}
        self.judge = Judge(stage.observer, self.outside)
        self.steps = make_steps(self.outside)
        self.guards = [Guard(stage.runtime) for _ in range(2)]
        self.jobs: list[UUID] = []
        self.batches: list[UUID] = []
        self.numbers: list[UUID] = []
        self.keys: dict[tuple[int, str], UUID] = {}
        self.messages: list[Message] = []
        self.delivered: list[Message] = []
        self.workers: list[Worker] = []
        tally.examples += 1

    @initialize(active=st.integers(0, 2), more=st.integers(0, 2))
    def begin(self, active: int, more: int) -> None:
        """Begins with some numbers that are active, and some imports under way."""
        for number in range(active):
            self.submit(number, organization=0, asserted=False, key=None, sent="sent")
        self._work_off()
        for number in range(active, active + more):
            self.submit(number, organization=1, asserted=False, key=None, sent="sent")

    # Requests

    @rule(
        number=st.integers(0, 3),
        organization=st.integers(0, 1),
        asserted=st.sampled_from([False, False, False, True]),
        key=st.sampled_from([None, "k1", "k2"]),
        sent=st.sampled_from(["sent", "sent", "sending failed", "crashed"]),
    )
    def submit(
        self, number: int, organization: int, *, asserted: bool, key: str | None, sent: str
    ) -> None:
        job = self.stage.new_job(
            number, organization=organization, asserted=asserted, idempotency_key=key
        )
        known = None if key is None else self.keys.get((organization, key))
        try:
            made = self.stage.runtime.jobs.submit(job, None)
        except NumberAlreadyImported:
            assert known is None, "a key that was used is answered with its job"
            return
        assert (made is None) is (known is not None), "one key makes one job"
        if made is None:
            assert key is not None
            earlier = self.stage.runtime.jobs.find_by_idempotency_key(job.organization_id, key)
            assert earlier is not None
            assert earlier.id == known
            return
        if key is not None:
            self.keys[organization, key] = job.id
        self._know(job.id, job.phone_number_id)
        if sent == "sent":
            self._send(job.id)
        elif sent == "sending failed":
            self.stage.runtime.jobs.sending_failed([job.id])

    @rule(
        numbers=st.lists(st.integers(0, 3), min_size=1, max_size=4), organization=st.integers(0, 1)
    )
    def submit_batch(self, numbers: list[int], organization: int) -> None:
        batch_id = uuid7()
        jobs = [
            self.stage.new_job(number, organization=organization, asserted=False, batch_id=batch_id)
            for number in numbers
        ]
        batch = NewBatch(
            id=batch_id,
            organization_id=jobs[0].organization_id,
            api_key_id=None,
            idempotency_key=None,
            sealed=self.stage.sealed,
            rows=[
                NewRow(line=line, e164=job.e164, job=job, error=None)
                for line, job in enumerate(jobs, start=1)
            ],
            credentials=[],
        )
        # The service refuses a row whose number comes twice; here the database has to.
        assert self.stage.batches.submit(batch)
        self.batches.append(batch_id)
        for job in jobs:
            if self.stage.runtime.jobs.get(job.id) is not None:
                self._know(job.id, job.phone_number_id)

    @rule(place=places)
    def cancel(self, place: int) -> None:
        for job_id in _one(self.jobs, place):
            with suppress(InvalidState):
                self.stage.runtime.jobs.cancel(job_id)
                self._send(job_id)

    @rule(place=places)
    def cancel_batch(self, place: int) -> None:
        if not self.batches:
            self.cancel(place)
        for batch_id in _one(self.batches, place):
            with suppress(InvalidState):
                for job_id in self.stage.batches.cancel(batch_id):
                    # Each by itself, as the service does: it may have ended meanwhile.
                    with suppress(InvalidState):
                        self.stage.runtime.jobs.cancel(job_id)
                        self._send(job_id)

    @rule(place=places)
    def retry(self, place: int) -> None:
        for job_id in _one(self.jobs, place):
            with suppress(InvalidState, NumberBusy, NotFound, NumberAlreadyImported):
                self.stage.runtime.jobs.retry(job_id)
            after = self.stage.runtime.jobs.get(job_id)
            assert after is not None
            assert after.state is not JobState.STUCK, "an operator could not resume it"
            self._send(job_id)

    @rule(place=places, kind=st.sampled_from([JobKind.RELEASE, JobKind.REPAIR, JobKind.REBIND]))
    def change(self, place: int, kind: JobKind) -> None:
        for number_id in _one(self.numbers, place):
            self._change(number_id, kind)

    @rule(place=places)
    def rename(self, place: int) -> None:
        for number_id in _one(self.numbers, place):
            number = self.stage.runtime.numbers.get(number_id)
            if number is None:
                return
            job = self.stage.runtime.jobs.get(number.set_up_by)
            assert job is not None
            with suppress(NotFound, NumberBusy):
                self.stage.runtime.numbers.describe(
                    number,
                    request={**job.request, "friendly_name": "renamed"},
                    sealed=job.sealed,
                    notify=True,
                    friendly_name="renamed",
                    details={},
                )

    # Messages and who works on them

    @rule(place=places, process=st.integers(0, 1), gates=st.integers(0, 30), fate=fates)
    def work(self, place: int, process: int, gates: int, fate: Fate) -> None:
        """Delivers a message, to somebody who gets some way with it."""
        self._some_message()
        for message in _one(self.messages, place):
            self.messages.remove(message)
            worker = self._start(message, process, hops=False)
            if worker is not None:
                self._go_on(worker, gates, fate)

    @rule(place=places, gates=st.integers(0, 8), fate=fates)
    def go_on(self, place: int, gates: int, fate: Fate) -> None:
        if not self.workers:
            self.work(place, 0, gates, fate)
        for worker in _one(self.workers, place):
            self._go_on(worker, gates, fate)

    @rule(place=places, gates=st.integers(0, 30), fate=st.sampled_from(DEADLY))
    def die_each_time(self, place: int, gates: int, fate: Fate) -> None:
        """Lets a step end everybody who tries it, until it may be tried no more."""
        self._some_message()
        for message in _one(self.messages, place):
            self.messages.remove(message)
            worker = self._start(message, 0, hops=False)
            for _ in range(RETRY.attempts):
                if worker is not None:
                    self._go_on(worker, gates, fate)
                self.pass_time(90)
                worker = self._start_job(message.job_id)
                gates = 0 if message.undo else 1

    @rule(
        place=places,
        writes=st.integers(0, 6),
        fate=st.sampled_from(LOSING),
        twice=st.booleans(),
        then=st.sampled_from(["cancel", "retry", "wait"]),
    )
    def lose_a_write(self, place: int, writes: int, fate: Fate, then: str, *, twice: bool) -> None:
        """Loses what became of a write, and lets somebody want the job to go on at once."""
        self._some_message()
        for message in _one(self.messages, place):
            self.messages.remove(message)
            job_id = message.job_id
            if twice:
                self._to_write(self._start(message, 0, hops=False), writes, Fate.REQUEST_LOST)
                self.pass_time(90)
                self._to_write(self._start_job(job_id), 0, fate)
            else:
                self._to_write(self._start(message, 0, hops=False), writes, fate)
            with suppress(TrunklineError):
                if then == "cancel":
                    self.stage.runtime.jobs.cancel(job_id)
                elif then == "retry":
                    self.stage.runtime.jobs.retry(job_id)
            worker = self._start_job(job_id)
            if worker is not None:
                self._go_on(worker, 1000, Fate.ANSWERED)

    @rule(place=places, overtaken=st.booleans(), again=st.booleans())
    def stand_still(self, place: int, *, overtaken: bool, again: bool) -> None:
        """Lets a worker stand still until its lease is over and others have done its work."""
        if not self.workers:
            self.work(place, 0, place % 32, Fate.ANSWERED)
        for worker in _one(self.workers, place):
            assert worker.claim is not None
            job_id = worker.claim.job.id
            self.pass_time(90)
            self.sweep(limit=5, waiting=set(JOB_QUEUES))
            for _ in range(overtaken + again):
                successor = self._start_job(job_id)
                if successor is not None:
                    self._go_on(successor, 1000, Fate.ANSWERED)
                with suppress(TrunklineError):
                    self.stage.runtime.jobs.retry(job_id)

    @rule(place=places, process=st.integers(0, 1), hops=st.booleans())
    def deliver_twice(self, place: int, process: int, *, hops: bool) -> None:
        """Takes a message from the broker that will be delivered again later."""
        self._some_message()
        for message in _one(self.messages, place):
            self._start(message, process, hops=hops)

    @rule(job=places, step=st.sampled_from(StepName), undo=st.booleans(), process=st.integers(0, 1))
    def deliver_old(self, job: int, step: StepName, process: int, *, undo: bool) -> None:
        """Delivers any message that a job may ever have had."""
        for job_id in _one(self.jobs, job):
            if self._is_held(job_id):
                return  # it never had any
            place = _ORDER.index(step)
            steps = _ORDER[place::-1] if undo else _ORDER[place:]
            self._start(Message(job_id=job_id, undo=undo, steps=steps), process, hops=True)

    @rule(limit=st.integers(1, 5), waiting=st.sets(st.sampled_from(JOB_QUEUES)))
    def sweep(self, limit: int, waiting: set[JobQueue]) -> None:
        look = self.stage.sweeps.look(letters=1)
        taken = self.stage.sweeps.take_due(limit=limit, waiting=waiting)
        assert look.is_due or not taken, "a sweep would have passed over these"
        for job_id in taken:
            self._send(job_id)
        let_go = self._feed(limit=limit)
        assert look.is_held or not let_go, "a sweep would have passed over these"

    @rule(seconds=st.sampled_from([6, 25, 47, 90, 400]))
    def pass_time(self, seconds: float) -> None:
        self.outside.land(self.clock.monotonic() + seconds)
        self.clock.offset += seconds
        self.stage.pass_time(seconds)

    # What else may go wrong

    @rule(
        what=st.sampled_from(["flushed", "unsent", "limited", "beat", "tired", "landed"]),
        place=places,
    )
    def disturb(self, what: str, place: int) -> None:
        match what:
            case "flushed":
                self.messages.clear()
            case "unsent":
                for job_id in _one(self.jobs, place):
                    if not self._is_held(job_id):
                        self.stage.runtime.jobs.sending_failed([job_id])
            case "limited":
                account = f"AC{place % 2}"
                self.stage.runtime.claims.limit_account("twilio", account, seconds=5.0 * place)
            case "beat":
                leases = self.guards[place % 2]._leases
                if leases._held:
                    leases._beat(list(leases._held))
            case "tired":
                self._tire(place)
            case "landed":
                self.outside.land_one(place)

    @rule(place=places, kind=st.sampled_from(KINDS))
    def rob(self, place: int, kind: str) -> None:
        """Somebody takes an object of an active number away."""
        for number_id in _one(self.numbers, place):
            number = self.stage.runtime.numbers.get(number_id)
            if number is None or number.status is not NumberStatus.ACTIVE:
                return
            if self.stage.runtime.jobs.open_job(number_id) is None:
                self.outside.rob(format_id("imp", number.import_id), kind)
                self._change(number_id, JobKind.REPAIR)

    def _tire(self, place: int) -> None:
        """Makes a job's undo one that has failed many times before."""
        for job_id in _one(self.jobs, place):
            self.stage.tire(job_id, undo_attempts=UNDO.attempts - 1)

    def _some_message(self) -> None:
        """If there is nothing to deliver, lets the sweep find something."""
        if not self.messages:
            self.pass_time(47)
            self.sweep(limit=2, waiting=set())

    # What must hold

    @invariant()
    def all_holds(self) -> None:
        self.tally.rules += 1
        self.outside.land(self.clock.monotonic())
        held = self.stage.engine.pool.checkedout()  # type: ignore[attr-defined]
        assert held == 0, "a connection is held while somebody calls outside"
        self.judge.check()

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._rest()
                self.tally.rested += 1
        finally:
            for worker in self.workers:
                worker.go_on(Fate.DIES)
            self.tally.messages += len(self.delivered)
            self.tally.writes += self.outside.writes

    def _rest(self) -> None:
        """Time passes and nothing fails any more: everything comes to its end, and stays there."""
        for worker in list(self.workers):
            self._go_on(worker, 1000, Fate.ANSWERED)
        self._work_off()
        for job_id in list(self.jobs):
            job = self.stage.runtime.jobs.get(job_id)
            if job is not None and job.state is JobState.STUCK:
                self.stage.runtime.jobs.retry(job_id)
        self._work_off()
        self.judge.check_rest(self.originals)
        self._nothing_changes_any_more()
        for number_id in list(self.numbers):
            self._change(number_id, JobKind.RELEASE)
        self._work_off()
        self.judge.check_rest(self.originals)
        assert not self.outside.things, "everything was given back"
        assert self.outside.numbers == self.originals
        again = self.stage.new_job(0, organization=0, asserted=False)
        assert self.stage.runtime.jobs.submit(again, None), "what was given back can be imported"
        self._know(again.id, again.phone_number_id)
        self._work_off()
        job = self.stage.runtime.jobs.get(again.id)
        assert job is not None
        assert job.state is JobState.ACTIVE

    def _work_off(self) -> None:
        """Sweeps, feeds and delivers until nothing is open; what is stuck waits for an operator."""
        for _ in range(_MOST_ROUNDS):
            while self.messages:
                worker = self._start(self.messages.pop(0), 0, hops=False)
                if worker is not None:
                    self._go_on(worker, 1000, Fate.ANSWERED)
            self.judge.check()
            if not self._open():
                return
            self.pass_time(_ROUND_SECONDS)
            self.sweep(limit=3, waiting=set())
        raise AssertionError(f"still open after {_MOST_ROUNDS} sweeps: {self._open()}")

    def _nothing_changes_any_more(self) -> None:
        """Every message that was ever delivered comes once more."""
        before, writes = self.judge.changes(), self.outside.writes
        for message in {*self.delivered}:
            worker = self._start(message, 1, hops=False)
            assert worker is None, f"somebody worked on a job that has ended: {message}"
        assert self.judge.changes() == before
        assert self.outside.writes == writes

    def _open(self) -> list[Any]:
        rows = self.stage.observer.execute(
            "SELECT id, kind, state, step, due_at FROM import_jobs "
            "WHERE state IN ('queued', 'running', 'undoing')"
        )
        return rows.fetchall()

    # Helpers

    def _know(self, job_id: UUID, number_id: UUID | None) -> None:
        self.jobs.append(job_id)
        if number_id is not None and number_id not in self.numbers:
            self.numbers.append(number_id)

    def _change(self, number_id: UUID, kind: JobKind) -> None:
        number = self.stage.runtime.numbers.get(number_id)
        if number is None:
            return
        setup = self.stage.runtime.jobs.get(number.set_up_by)
        assert setup is not None
        new = NewChange(
            id=uuid7(),
            kind=kind,
            organization_id=number.organization_id,
            api_key_id=None,
            phone_number_id=number_id,
        )
        if kind is JobKind.REBIND:
            spec = ImportSpec.from_json(setup.request)
            wanted = replace(spec, room_prefix=f"changed-{len(self.jobs)}-")
            new = replace(
                new, request=wanted.to_json(), sealed=setup.sealed, seen=number.updated_at
            )
        try:
            self.stage.runtime.jobs.submit_change(new)
        except NotFound:
            assert number.status in (NumberStatus.PENDING, NumberStatus.RELEASED)
            return
        except NumberBusy:
            assert self.stage.runtime.jobs.open_job(number_id) is not None
            return
        self._know(new.id, None)
        self._send(new.id)

    def _is_held(self, job_id: UUID) -> bool:
        row = self.stage.observer.execute(
            "SELECT state IN ('queued', 'undoing') AND due_at IS NULL "
            "FROM import_jobs WHERE id = %s",
            [job_id],
        ).fetchone()
        return row is not None and row[0]

    def _send(self, job_id: UUID) -> None:
        """Sends the chain from the cursor on, as the product's own glue does."""
        job = self.stage.runtime.jobs.get(job_id)
        if job is None or job.is_final or job.is_held or job.step is None:
            return
        plan = PLANS[job.kind]
        place = plan.index(job.step)
        undo = job.state is JobState.UNDOING
        steps = plan[place::-1] if undo else plan[place:]
        self.messages.append(Message(job_id=job_id, undo=undo, steps=steps))

    def _feed(self, *, limit: int, after: UUID | None = None) -> list[UUID]:
        settings = self.stage.settings
        before = self._under_way()
        let_go = self.stage.places.take_held(
            per_organization=settings.organization_concurrency,
            per_account=settings.account_concurrency,
            limit=limit,
            after=after,
        )
        for organization, count in self._under_way().items():
            most = settings.organization_concurrency + UNDO_PLACES
            assert count <= max(most, before[organization]), f"{organization} has {count} under way"
        for job_id in let_go:
            self._send(job_id)
        return let_go

    def _under_way(self) -> Counter[UUID]:
        query = "SELECT organization_id FROM import_jobs WHERE due_at IS NOT NULL"
        return Counter(row[0] for row in self.stage.observer.execute(query))

    def _start(self, message: Message, process: int, *, hops: bool) -> Worker | None:
        """Delivers a message; returns the worker if it stops at a gate."""
        if len(self.workers) >= _MOST_WORKERS:
            self._go_on(self.workers[0], 1000, Fate.ANSWERED)
        self.delivered.append(message)
        worker = Worker(lambda: self._obey(message, self.guards[process], hops=hops))
        worker.start()
        if worker.ended:
            return None
        self.workers.append(worker)
        return worker

    def _start_job(self, job_id: UUID) -> Worker | None:
        """Sends a job's message and delivers it at once; None if nobody comes to work on it."""
        before = len(self.messages)
        self._send(job_id)
        if len(self.messages) == before:
            return None
        return self._start(self.messages.pop(), 1, hops=False)

    def _to_write(self, worker: Worker | None, writes: int, fate: Fate) -> None:
        """Lets a worker do some writes, and the next one as fate will have it."""
        while worker is not None and not worker.ended:
            last = worker.is_to_write and writes == 0
            writes -= worker.is_to_write
            self._go_on(worker, 0, fate if last else Fate.ANSWERED)
            if last:
                return

    def _go_on(self, worker: Worker, gates: int, fate: Fate) -> None:
        """Lets a worker pass some gates, and the next one as fate will have it."""
        for gate in range(gates + 1):
            if worker.ended:
                break
            check = self._stale(worker)
            worker.go_on(fate if gate == gates else Fate.ANSWERED)
            check()
        if worker.ended:
            self.workers.remove(worker)

    def _stale(self, worker: Worker) -> Callable[[], None]:
        """Returns what makes sure that a worker whose job has another owner changes nothing."""
        claim = worker.claim
        assert claim is not None
        row = self.stage.observer.execute(
            "SELECT fence, lease_until FROM import_jobs WHERE id = %s", [claim.job.id]
        ).fetchone()
        assert row is not None
        if row[0] == claim.fence and row[1] is not None:
            return lambda: None
        query = (
            "SELECT count(*) FROM model_history WHERE %s IN "
            "(old ->> 'id', old ->> 'job_id', old ->> 'import_id')"
        )
        key = [str(claim.job.brought_in_by)]
        before = self.stage.observer.execute(query, key).fetchone()

        def check() -> None:
            after = self.stage.observer.execute(query, key).fetchone()
            assert before == after, f"a stale worker wrote at {worker.gate}"

        return check

    def _objection(self, ctx: Context) -> str | None:
        row = self.stage.observer.execute(
            "SELECT fence, lease_until > clock_timestamp() FROM import_jobs WHERE id = %s",
            [ctx.claim.job.id],
        ).fetchone()
        if row is None or row[0] != ctx.claim.fence:
            return "written by a worker whose job has another owner"
        return None if row[1] else "written without a live lease"

    def _obey(self, message: Message, guard: Guard, *, hops: bool) -> None:
        """Does with a message what the product's own glue does.

        With ``hops`` each step has a message of its own; else the worker goes on with the next one.
        """
        held = None if hops else guard.begin(message.job_id)
        message = _as_begun(message, held)
        for place, name in enumerate(message.steps):
            step, following = self.steps[name], message.steps[place + 1 : place + 2]
            if message.undo:
                outcome = guard.undo(step, message.job_id)
            else:
                then = self.steps[following[0]] if following and not hops else None
                outcome = guard.run(step, message.job_id, held=held, then=_always(then))
            held = outcome if isinstance(outcome, Held) else None
            match outcome:
                case Next.GO_ON | Held():
                    rest = replace(message, steps=message.steps[place + 1 :])
                    if hops and rest.steps:
                        self.messages.append(rest)
                        return
                case RetryIn():
                    self.messages.append(replace(message, steps=message.steps[place:]))
                    return
                case Next.END:
                    self._feed(limit=2, after=message.job_id)
                    return
                case Next.UNDO | Failed(stuck=False):
                    self._send(message.job_id)
                    return
                case Next.REST | Failed():
                    return


def _as_begun(message: Message, held: Held | None) -> Message:
    """Whoever begins a job goes by its row, whatever the message was sent for."""
    if held is None:
        return message
    return replace(message, undo=False, steps=PLANS[held.claim.job.kind])


def _always(step: Step | None) -> Callable[[], Step | None]:
    return lambda: step


def _one(items: list[_Item], place: int) -> list[_Item]:
    """Returns one of the items, in a list; none if there are none."""
    return [items[place % len(items)]] if items else []


assert set(PLANS) - {JobKind.IMPORT} == {JobKind.RELEASE, *CHANGES}, "a kind has no rule"
