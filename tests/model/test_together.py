"""Two of everything at the very same time: each scene, and every pair of what may happen in it.

The model lets one thing happen after the other; here two threads meet in the database. Whatever
each of them is told, rows and their history must satisfy the same judge, and nobody may meet a
deadlock or an error without a name. ``TRUNKLINE_MODEL_EXAMPLES`` lets every pair meet.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations_with_replacement
from threading import Barrier
from typing import Any, Final
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from tests.conftest import make_settings
from tests.model.hands import Clock
from tests.model.judge import Judge
from tests.model.outside import Outside
from tests.model.stage import TIMES, Stage, built
from tests.model.steps import RETRY
from worker.db.batches import NewBatch, NewRow
from worker.db.records import Claim, JobRecord, NewChange, NumberFacts
from worker.domain.errors import (
    NumberNotOwned,
    ProviderUnavailable,
    TrunklineError,
    UndoFailed,
)
from worker.domain.job import JobKind, JobState, StepName

FIRST, SECOND, *_, LAST = StepName
#: Pairs of each scene that meet in a run of the suite; all of them, often, where more is asked for.
_PAIRS: Final = 10
_MEETINGS: Final = 5
_LEASE_SECONDS: Final = 60.0

Act = Callable[[], object]


@pytest.fixture(scope="module")
def stage(postgres: Any) -> Iterator[Stage]:
    postgres.create_database("together", template="template_migrated")
    with built(make_settings(postgres.url("together"), **TIMES)) as made:
        yield made
    postgres.drop_database("together")


@dataclass
class Scene:
    """A job in some state, and whoever wants something of it."""

    stage: Stage

    def __post_init__(self) -> None:
        self.jobs = self.stage.runtime.jobs
        self.claims = self.stage.runtime.claims
        self.numbers = self.stage.runtime.numbers

    # How a scene is set

    def queued(self) -> Mapping[str, Act]:
        job = self.submit()
        return self.of_import(job) | self.of_step(job, FIRST)

    def claimed(self) -> Mapping[str, Act]:
        job = self.submit()
        claim = self.begin(job, FIRST)
        return self.of_import(job) | self.of_step(job, FIRST) | self.of_claim(claim)

    def lapsed(self) -> Mapping[str, Act]:
        acts = self.claimed()
        self.stage.pass_time(2 * _LEASE_SECONDS)
        return acts

    def last_step(self) -> Mapping[str, Act]:
        job = self.submit()
        claim = self.run_to(job, LAST)
        self.stage.pass_time(2 * _LEASE_SECONDS)
        return self.of_import(job) | self.of_step(job, LAST) | self.of_claim(claim)

    def undoing(self) -> Mapping[str, Act]:
        job = self.submit()
        self.claims.fail(self.run_to(job, SECOND), NumberNotOwned(), settle=None)
        claim = self.begin_undo(job, SECOND)
        self.stage.pass_time(2 * _LEASE_SECONDS)
        return self.of_import(job) | {
            "begin undo": lambda: self.begin_undo(job, SECOND),
            "begin the next undo": lambda: self.begin_undo(job, FIRST),
            "finish undo": lambda: self.claims.finish_undo(claim),
            "stick": lambda: self.claims.stick(claim, UndoFailed()),
            "postpone": lambda: self.postpone(claim),
            "beat": lambda: self.beat(claim),
        }

    def stuck(self) -> Mapping[str, Act]:
        job = self.submit()
        self.claims.fail(self.begin(job, FIRST), NumberNotOwned(), settle=None)
        claim = self.begin_undo(job, FIRST)
        self.claims.stick(claim, UndoFailed())
        return self.of_import(job) | {
            "begin undo": lambda: self.begin_undo(job, FIRST),
            "finish undo": lambda: self.claims.finish_undo(claim),
        }

    def failed(self) -> Mapping[str, Act]:
        job = self.submit()
        self.claims.fail(self.begin(job, FIRST), NumberNotOwned(), settle=None)
        self.claims.finish_undo(self.begin_undo(job, FIRST))
        return self.of_import(job) | self.of_step(job, FIRST)

    def active(self) -> Mapping[str, Act]:
        return self.of_number(self.imported())

    def changing(self) -> Mapping[str, Act]:
        imported = self.imported()
        repair = self.change(imported, JobKind.REPAIR)
        claim = self.begin(repair, FIRST)
        acts = self.of_number(imported) | self.of_step(repair, FIRST) | self.of_claim(claim)
        return {**acts, "retry": lambda: self.jobs.retry(repair)}

    def failed_after_its_last_write(self) -> Mapping[str, Act]:
        imported = self.imported()
        rebind = self.change(imported, JobKind.REBIND)
        self.claims.finish_step(
            self.begin(rebind, StepName.CREATE_DISPATCH_RULE), output={}, sealed=None
        )
        for _ in range(RETRY.attempts):
            self.write_down_first(self.begin(rebind, LAST))
            self.stage.pass_time(2 * _LEASE_SECONDS)
        assert not isinstance(self.begin(rebind, LAST), Claim)
        return self.of_number(imported) | {"retry": lambda: self.jobs.retry(rebind)}

    def held(self) -> Mapping[str, Act]:
        batch_id = uuid7()
        jobs = [
            self.stage.new_job(place, organization=0, asserted=False, batch_id=batch_id)
            for place in range(4)
        ]
        rows = [
            NewRow(line=line, e164=job.e164, job=job, error=None)
            for line, job in enumerate(jobs, start=1)
        ]
        batch = NewBatch(
            id=batch_id,
            organization_id=jobs[0].organization_id,
            api_key_id=None,
            idempotency_key=None,
            sealed=self.stage.sealed,
            rows=rows,
            credentials=[],
        )
        self.stage.batches.submit(batch)
        return self.of_import(jobs[0].id) | {
            "feed": lambda: self.stage.places.take_held(per_organization=9, per_account=2, limit=9),
            "cancel the batch": lambda: self.stage.batches.cancel(batch_id),
            "cancel another": lambda: self.jobs.cancel(jobs[3].id),
        }

    def empty(self) -> Mapping[str, Act]:
        places = (0, 1, 2, 3)
        return {
            "submit": self.submit,
            "submit elsewhere": lambda: self.submit(organization=1),
            "submit with a key": lambda: self.submit(idempotency_key="k"),
            "submit a batch": lambda: self.batch(places),
            "submit it backwards": lambda: self.batch(places[::-1]),
        }

    # Who wants what

    def of_import(self, job: UUID) -> dict[str, Act]:
        return {
            "cancel": lambda: self.jobs.cancel(job),
            "retry": lambda: self.jobs.retry(job),
            "sweep": lambda: self.stage.sweeps.take_due(limit=5),
            "note it unsent": lambda: self.jobs.sending_failed([job]),
            "submit": self.submit,
        }

    def of_step(self, job: UUID, step: StepName) -> dict[str, Act]:
        return {"begin": lambda: self.begin(job, step)}

    def of_claim(self, claim: Claim) -> dict[str, Act]:
        return {
            "finish": lambda: self.finish(claim),
            "end": lambda: self.end(claim),
            "fail": lambda: self.claims.fail(claim, NumberNotOwned(), settle=5),
            "postpone": lambda: self.postpone(claim),
            "record": lambda: self.claims.record_objects(claim, {"thing": "1"}),
            "beat": lambda: self.beat(claim),
        }

    def of_number(self, imported: JobRecord) -> dict[str, Act]:
        return {
            "release": lambda: self.change(imported, JobKind.RELEASE),
            "repair": lambda: self.change(imported, JobKind.REPAIR),
            "rebind": lambda: self.change(imported, JobKind.REBIND),
            "rename": lambda: self.rename(imported),
            "submit": self.submit,
            "retry the import": lambda: self.jobs.retry(imported.id),
            "cancel the import": lambda: self.jobs.cancel(imported.id),
        }

    # The words of all these

    def submit(self, *, organization: int = 0, **values: Any) -> UUID:
        job = self.stage.new_job(0, organization=organization, asserted=False, **values)
        self.jobs.submit(job, None)
        return job.id

    def batch(self, places: tuple[int, ...]) -> None:
        batch_id = uuid7()
        jobs = [
            self.stage.new_job(place, organization=0, asserted=False, batch_id=batch_id)
            for place in places
        ]
        self.stage.batches.submit(
            NewBatch(
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
        )

    def begin(self, job: UUID, step: StepName) -> Any:
        return self.claims.begin_step(
            job, step, attempts=RETRY.attempts, lease_seconds=_LEASE_SECONDS
        )

    def begin_undo(self, job: UUID, step: StepName) -> Any:
        return self.claims.begin_undo(
            job, step, attempts=RETRY.attempts, lease_seconds=_LEASE_SECONDS
        )

    def run_to(self, job: UUID, last: StepName) -> Any:
        for step in StepName:
            claim = self.begin(job, step)
            if step is last:
                return claim
            self.claims.finish_step(claim, output={}, sealed=None)
        raise AssertionError(last)

    def finish(self, claim: Claim) -> None:
        self.claims.finish_step(claim, output={}, sealed=None, number=_facts(claim))

    def end(self, claim: Claim) -> None:
        """The last step alone ends this way."""
        if (number := _facts(claim)) is not None:
            self.claims.end(claim, output={}, sealed=None, number=number)

    def write_down_first(self, claim: Claim) -> None:
        """Leaves what the release before this one left between the last step's two writes."""
        self.stage.observer.execute(
            "UPDATE phone_numbers SET status = 'active', job_id = %s WHERE id = %s",
            [claim.job.id, claim.job.phone_number_id],
        )

    def postpone(self, claim: Claim) -> None:
        self.claims.retry_later(claim, ProviderUnavailable(), delay=9, by_sweep=True, settle=None)

    def beat(self, claim: Claim) -> None:
        self.claims.heartbeat([(claim.job.id, claim.fence)], lease_seconds=_LEASE_SECONDS)

    def imported(self) -> JobRecord:
        job = self.submit()
        self.finish(self.run_to(job, LAST))
        found = self.jobs.get(job)
        assert found is not None
        assert found.state is JobState.ACTIVE
        return found

    def change(self, imported: JobRecord, kind: JobKind) -> UUID:
        assert imported.phone_number_id is not None
        rebound = {"request": imported.request, "sealed": imported.sealed}
        new = NewChange(
            id=uuid7(),
            kind=kind,
            organization_id=imported.organization_id,
            api_key_id=None,
            phone_number_id=imported.phone_number_id,
            notify=True,
            **(rebound if kind is JobKind.REBIND else {}),  # type: ignore[arg-type]
        )
        self.jobs.submit_change(new)
        return new.id

    def rename(self, imported: JobRecord) -> None:
        assert imported.phone_number_id is not None
        number = self.numbers.get(imported.phone_number_id)
        assert number is not None
        self.numbers.describe(
            number,
            request=imported.request,
            sealed=imported.sealed,
            notify=True,
            friendly_name="renamed",
            details={},
        )


@pytest.mark.parametrize(
    "name",
    [
        *("empty", "queued", "claimed", "lapsed", "last_step", "undoing", "stuck", "failed"),
        *("active", "changing", "failed_after_its_last_write", "held"),
    ],
)
def test_whatever_meets_in_the_database_leaves_it_sound(stage: Stage, name: str) -> None:
    chance = random.Random(name)  # noqa: S311 -- who meets, and who comes a little later
    pairs = _pairs(stage, name)
    if os.environ.get("TRUNKLINE_MODEL_EXAMPLES"):
        pairs *= _MEETINGS
    elif len(pairs) > _PAIRS:
        pairs = chance.sample(pairs, _PAIRS)
    with ThreadPoolExecutor(2) as both:
        for pair in pairs:
            judge = _fresh_judge(stage)
            acts = getattr(Scene(stage), name)()
            barrier = Barrier(2)
            late = chance.randrange(2), chance.random() * 0.004

            def act(place: int, *, acts: Any = acts, pair: Any = pair, late: Any = late) -> object:
                barrier.wait()  # noqa: B023 -- both of this pair
                if late[0] == place:
                    time.sleep(late[1])
                try:
                    return acts[pair[place]]()
                except TrunklineError as refusal:
                    return refusal

            try:
                list(both.map(act, range(2)))
                judge.check(outside=False)
            except Exception as error:
                raise AssertionError(f"{name}: {pair[0]} beside {pair[1]}") from error


def _facts(claim: Claim) -> NumberFacts | None:
    return NumberFacts(country="US") if claim.step is LAST else None


def _pairs(stage: Stage, name: str) -> list[tuple[str, str]]:
    stage.empty()
    return list(combinations_with_replacement(getattr(Scene(stage), name)(), 2))


def _fresh_judge(stage: Stage) -> Judge:
    stage.empty()
    return Judge(stage.observer, Outside(clock=Clock(), objection=lambda _ctx: None))
