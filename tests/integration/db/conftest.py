from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from worker.db.claims import Claims
from worker.db.directory import Directory
from worker.db.engine import make_engine
from worker.db.numbers import Numbers
from worker.db.records import Claim, JobRecord, NewJob, NumberFacts
from worker.db.repository import JobRepository
from worker.db.sweeps import Sweeps
from worker.db.vault import Vault
from worker.domain.job import StepName
from worker.settings import Settings

E164 = "+14155550100"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A repository on a fresh database with one organisation and one credential."""

    engine: Engine
    jobs: JobRepository
    claims: Claims
    sweeps: Sweeps
    directory: Directory
    numbers: Numbers
    vault: Vault
    organization_id: UUID
    credential_id: UUID

    def new_job(self, e164: str = E164, **changes: Any) -> NewJob:
        values: dict[str, Any] = {
            "id": uuid7(),
            "organization_id": self.organization_id,
            "api_key_id": None,
            "idempotency_key": None,
            "provider": "twilio",
            "e164": e164,
            "credential_id": self.credential_id,
            "account_ref": "AC1",
            "agent_id": None,
            "user_id": None,
            "phone_number_id": uuid7(),
            "request": {
                "ownership": "proven",
                "friendly_name": None,
                "routing_mode": "webhook",
                "supports_inbound": True,
                "supports_outbound": True,
                "price": None,
                "metadata": {},
            },
            "sealed": self.vault.seal({"fingerprint": "f"}),
            "notify": False,
            "warnings": [],
        }
        return NewJob(**{**values, **changes})

    def submit(self, e164: str = E164, **changes: Any) -> UUID:
        job = self.new_job(e164, **changes)
        assert self.jobs.submit(job, None)
        return job.id

    def begin(self, job_id: UUID, step: StepName, *, lease_seconds: float = 30) -> Claim:
        claim = self.claims.begin_step(job_id, step, attempts=3, lease_seconds=lease_seconds)
        assert isinstance(claim, Claim), claim
        return claim

    def finish(self, claim: Claim, **facts: Any) -> StepName | None:
        """Ends a step; with the last one the number is active, with these facts."""
        agent = {"agent_id": claim.job.agent_id}
        number = NumberFacts(**agent | facts) if claim.step is StepName.PERSIST_NUMBER else None
        return self.claims.finish_step(claim, output={}, sealed=None, number=number)

    def run_to(self, job_id: UUID, step: StepName) -> Claim:
        """Does every step before this one and claims it."""
        for earlier in StepName:
            claim = self.begin(job_id, earlier)
            if earlier is step:
                return claim
            self.finish(claim)
        raise AssertionError(step)

    def write_down_first(self, claim: Claim) -> None:
        """Leaves what the release before this one left between the last step's two writes."""
        self.sql(
            "UPDATE phone_numbers SET status = 'active', job_id = :job, updated_at = now() "
            "WHERE id = :number",
            job=claim.job.id,
            number=claim.job.phone_number_id,
        )

    def activate(self, e164: str = E164, **changes: Any) -> JobRecord:
        """Imports a number to its end; each step leaves an object of its own."""
        job_id = self.submit(e164, **changes)
        for step in StepName:
            claim = self.begin(job_id, step)
            self.claims.record_objects(claim, {f"{step}_object": f"{step}-1"})
            facts = NumberFacts(agent_id=claim.job.agent_id)
            number = facts if step is StepName.PERSIST_NUMBER else None
            sealed = self.vault.seal({"of": step}) if step is StepName.CHECK_OWNERSHIP else None
            self.claims.finish_step(claim, output={"found": step}, sealed=sealed, number=number)
        return self.get(job_id)

    def get(self, job_id: UUID) -> JobRecord:
        job = self.jobs.get(job_id)
        assert job is not None
        return job

    def sql(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    def expire_lease(self, job_id: UUID) -> None:
        self.sql(
            "UPDATE import_jobs SET lease_until = now() - interval '1 s', "
            "due_at = now() - interval '1 s' WHERE id = :id",
            id=job_id,
        )

    def make_due(self, job_id: UUID) -> None:
        self.sql(
            "UPDATE import_jobs SET due_at = now() - interval '1 s', next_attempt_at = NULL "
            "WHERE id = :id",
            id=job_id,
        )


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    engine = make_engine(settings)
    directory = Directory(engine)
    vault = Vault(settings.vault_keys)
    organization_id = directory.create_organization("Acme")
    yield Bench(
        engine=engine,
        # Who has to wait for a place is the matter of test_places.py alone.
        jobs=JobRepository(engine, resend_after_seconds=2, organization_concurrency=999),
        claims=Claims(engine, resend_after_seconds=2),
        sweeps=Sweeps(engine, resend_after_seconds=2),
        directory=directory,
        numbers=Numbers(engine),
        vault=vault,
        organization_id=organization_id,
        credential_id=directory.create_credential(
            organization_id,
            provider="twilio",
            account_ref="AC1",
            label="",
            sealed=vault.seal({"auth_token": "t"}),
        ),
    )
    engine.dispose()


@pytest.fixture
def at_once() -> Callable[[int, Callable[[int], Any]], list[Any]]:
    """Runs a function many times at the same moment; returns results and exceptions."""

    def run(copies: int, call: Callable[[int], Any]) -> list[Any]:
        barrier = Barrier(copies)

        def one(index: int) -> Any:
            barrier.wait()
            try:
                return call(index)
            except Exception as error:  # noqa: BLE001 -- the test judges it
                return error

        with ThreadPoolExecutor(copies) as pool:
            return list(pool.map(one, range(copies)))

    return run
