"""What a submit writes: the rows of a job and of its number, and the statement that stores them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Uuid, bindparam, literal, select, text, true
from sqlalchemy.dialects.postgresql import insert

from worker.db.audit import Deed, audit_row
from worker.db.models import AuditEntry, Credential, ImportJob, PhoneNumber
from worker.db.moves import ORDER
from worker.db.places import START, Start
from worker.db.prepared import Prepared
from worker.db.records import JobRecord, NewJob
from worker.domain.job import JobState
from worker.domain.values import NumberStatus


def job_row(job: NewJob) -> dict[str, Any]:
    """Returns what a new job's row holds, but for how it starts."""
    return {
        "id": job.id,
        "organization_id": job.organization_id,
        "api_key_id": job.api_key_id,
        "idempotency_key": job.idempotency_key,
        "state": JobState.QUEUED,
        "provider": job.provider,
        "e164": job.e164,
        "credential_id": job.credential_id,
        "account_ref": job.account_ref,
        "agent_id": job.agent_id,
        "user_id": job.user_id,
        "phone_number_id": job.phone_number_id,
        "request": job.request,
        "sealed": job.sealed,
        "notify": job.notify,
        "batch_id": job.batch_id,
        "warnings": list(job.warnings),
        "step": ORDER[0],
    }


def number_row(job: NewJob | JobRecord) -> dict[str, Any]:
    """Returns what the row holds with which an import claims its number."""
    request = job.request
    return {
        "id": job.phone_number_id,
        "organization_id": job.organization_id,
        "import_id": job.id,
        "e164": job.e164,
        "provider": job.provider,
        "ownership": request["ownership"],
        "status": NumberStatus.PENDING,
        "credential_id": job.credential_id,
        "agent_id": job.agent_id,
        "user_id": job.user_id,
        "friendly_name": request["friendly_name"],
        "routing_mode": request["routing_mode"],
        "supports_inbound": request["supports_inbound"],
        "supports_outbound": request["supports_outbound"],
        "details": {name: request.get(name) for name in ("price", "metadata", "carrier")},
    }


def store(
    connection: Connection,
    job: NewJob,
    deed: Deed | None,
    *,
    start: Start,
    resend_after_seconds: float,
) -> Row[Any]:
    """Stores a job with the claim of its number, and the log's row if there is a deed.

    Returns the job's row, and beside it ``held_credential``, null if the job's is not there any
    more, and ``claimed_number``, null if somebody else has the number. Without the first there is
    no job; nor is there one where its idempotency key has been used. Whoever calls this rolls back
    what is not whole.
    """
    rows = {
        "job": job_row(job),
        "number": number_row(job),
        "deed": {} if deed is None else audit_row(deed),
    }
    values = {f"{of}_{name}": value for of, row in rows.items() for name, value in row.items()}
    return (
        _storing(*(tuple(row) for row in rows.values()))
        .execute(
            connection,
            **values,
            **vars(start),
            resend_after=timedelta(seconds=resend_after_seconds),
        )
        .one()
    )


@cache
def _storing(
    of_job: tuple[str, ...], of_number: tuple[str, ...], of_deed: tuple[str, ...]
) -> Prepared:
    """Stores a job, the claim of its number and the log's row of it, each if the one before is.

    These are the names of the columns of each; there may be none of the log.
    """
    credential = (
        select(Credential.id)
        .where(
            Credential.id == bindparam("job_credential_id", type_=Uuid),
            Credential.deleted_at.is_(None),
        )
        # It cannot be deleted before the job that needs it is stored.
        .with_for_update(read=True)
        .cte("c")
    )
    values = {**_parameters("job", ImportJob, of_job), **START}
    job = (
        insert(ImportJob)
        .from_select(list(values), select(*values.values()).select_from(credential))
        .on_conflict_do_nothing(
            index_elements=["organization_id", "idempotency_key"],
            index_where=text("idempotency_key IS NOT NULL"),
        )
        .returning(ImportJob.__table__)
        .cte("j")
    )
    values = _parameters("number", PhoneNumber, of_number)
    number = (
        insert(PhoneNumber)
        .from_select(list(values), select(*values.values()).select_from(job))
        .on_conflict_do_nothing()
        .returning(PhoneNumber.id)
        .cte("n")
    )
    once = select(literal(1).label("one")).subquery("once")
    stored = select(
        credential.c.id.label("held_credential"), number.c.id.label("claimed_number"), *job.c
    ).select_from(
        once.outerjoin(credential, true()).outerjoin(job, true()).outerjoin(number, true())
    )
    if not of_deed:
        return Prepared(stored)
    values = _parameters("deed", AuditEntry, of_deed)
    deed = (
        insert(AuditEntry)
        .from_select(list(values), select(*values.values()).select_from(number))
        .returning(AuditEntry.id)
        .cte("a")
    )
    return Prepared(stored.add_cte(deed))


def _parameters(of: str, table: Any, names: Iterable[str]) -> dict[str, Any]:  # noqa: ANN401 -- a model
    columns = table.__table__.c
    return {name: bindparam(f"{of}_{name}", type_=columns[name].type) for name in names}
