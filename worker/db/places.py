"""Places: how many jobs of an organisation are under way at a time, and who gets the next one.

A job under way has ``due_at``: its message is in the broker, or a worker has it, or it waits for a
retry. One that found no place is *held*: it is a row with no ``due_at`` and no message, which no
sweep asks for until :meth:`Places.take_held` lets it go. So the broker never holds more than a few
messages of each organisation, however many jobs it has; and nothing is lost with a held job's
message, since there is none.

Of what an organisation holds, undoing goes first, then single jobs, then rows of batches, each kind
oldest first. Between organisations it goes in turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Connection,
    Engine,
    bindparam,
    case,
    func,
    select,
    text,
    update,
)

from worker.db.engine import one_statement
from worker.db.models import ImportJob
from worker.db.moves import IS_HELD, NOW, in_seconds
from worker.db.prepared import Prepared
from worker.domain.job import JobState

#: Feeding and cancelling go one after the other: two feeders would both see the same free places.
_FEEDING_LOCK: Final = 7_238_146_002
#: An organisation's first jobs under way go by the queue of those who wait for nobody.
EXPRESS_PLACES: Final = 4
#: Places beside all others that only undoing may take: a live number is on its way back.
UNDO_PLACES: Final = 4
#: Accounts of one organisation's batches that one feeding looks at.
_ACCOUNTS: Final = 200

# Each is the predicate of an index, written as there, so that the index serves it.
_HELD_ALONE: Final = (
    "due_at IS NULL AND (state = 'undoing' OR (state = 'queued' AND batch_id IS NULL))"
)
_HELD_IN_BATCH: Final = "due_at IS NULL AND state = 'queued' AND batch_id IS NOT NULL"

# Each part names an order that only its index has: Postgres would else expect to find the few rows
# early in a table of a million that have ended.
_UNDER_WAY: Final = """(
    SELECT count(*) FROM (
        SELECT 1 FROM import_jobs AS taken
        WHERE taken.organization_id = {organization} AND taken.due_at IS NOT NULL
        ORDER BY taken.due_at DESC LIMIT {most}
    ) AS found
)"""
_FIRST_ALONE: Final = f"""(
    SELECT state FROM import_jobs AS job
    WHERE job.organization_id = {{organization}} AND {_HELD_ALONE}
    ORDER BY (state = 'queued'), id LIMIT 1
)"""  # noqa: S608 -- constants
_FIRST_IN_BATCH: Final = f"""(
    SELECT state FROM import_jobs AS job
    WHERE job.organization_id = {{organization}} AND {_HELD_IN_BATCH}
    ORDER BY provider, account_ref, id LIMIT 1
)"""  # noqa: S608 -- constants


#: Whether an organisation holds a job that waits for a place.
AWAITED: Final = f"(coalesce({_FIRST_ALONE}, {_FIRST_IN_BATCH}) IS NOT NULL)"


#: Reads as many rows as there are places at most, however many jobs wait.
_ROOM: Final = Prepared(
    text(
        f"""
        SELECT {_UNDER_WAY.format(organization=":organization", most=":places")} AS under_way,
               {_FIRST_ALONE.format(organization=":organization")} AS next_state
        """
    )
)
_ENDED: Final = text(
    f"""
    SELECT ended.organization_id FROM import_jobs AS ended
    WHERE ended.id = :after
      AND ended.state IN ('active', 'failed', 'cancelled', 'stuck', 'released')
      AND {AWAITED.format(organization="ended.organization_id")}
    """  # noqa: S608 -- constants
)
#: Whether any organisation does.
ANY_HELD: Final = f"""(coalesce(
    (SELECT state FROM import_jobs WHERE {_HELD_ALONE}
     ORDER BY organization_id, (state = 'queued'), id LIMIT 1),
    (SELECT state FROM import_jobs WHERE {_HELD_IN_BATCH}
     ORDER BY organization_id, provider, account_ref, id LIMIT 1)
) IS NOT NULL)"""  # noqa: S608 -- constants

# Which organisations and accounts hold jobs is found by jumping from one to the next in an index:
# what a feeding costs depends on how many these are, not on how many jobs they hold.
_HOLDERS: Final = f"""
    alone(organization_id) AS (
        (SELECT organization_id FROM import_jobs
         WHERE {_HELD_ALONE} ORDER BY organization_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT organization_id FROM import_jobs
            WHERE {_HELD_ALONE} AND organization_id > alone.organization_id
            ORDER BY organization_id LIMIT 1
        )
        FROM alone WHERE organization_id IS NOT NULL
    )"""  # noqa: S608 -- constants
_HOLDER: Final = "alone(organization_id) AS (SELECT CAST(:organization AS uuid))"

_BUSY: Final = _UNDER_WAY.format(
    organization="holder.organization_id", most=f":per_organization + {UNDO_PLACES}"
)
#: The held jobs that may go now, the next of each organisation first.
_GOING: Final = f"""
    WITH RECURSIVE {{holders}},
    in_batch(organization_id, provider, account_ref, nth) AS (
        (SELECT organization_id, provider, account_ref, 1 FROM import_jobs
         WHERE {_HELD_IN_BATCH} AND {{whose}}
         ORDER BY organization_id, provider, account_ref LIMIT 1)
        UNION ALL
        SELECT following.*, CASE
            WHEN following.organization_id = in_batch.organization_id THEN in_batch.nth + 1 ELSE 1
        END
        FROM in_batch CROSS JOIN LATERAL (
            SELECT organization_id, provider, account_ref FROM import_jobs
            WHERE {_HELD_IN_BATCH} AND (organization_id, provider, account_ref) > (
                in_batch.organization_id,
                -- Past the last provider there is: the next organisation.
                CASE WHEN in_batch.nth < {_ACCOUNTS} THEN in_batch.provider ELSE 'zzz' END,
                in_batch.account_ref
            )
            ORDER BY organization_id, provider, account_ref LIMIT 1
        ) AS following
        -- Not inside: with it, the index would be read from the organisation's first row on.
        WHERE following.{{whose}}
    ),
    organizations AS (
        SELECT organization_id, :per_organization - {_BUSY} AS room
        FROM (
            SELECT organization_id FROM alone UNION SELECT organization_id FROM in_batch
        ) AS holder
        WHERE organization_id IS NOT NULL
    ),
    limited AS MATERIALIZED (
        SELECT provider, account_ref FROM provider_limits WHERE until > clock_timestamp()
    ),
    accounts AS MATERIALIZED (
        SELECT provider, account_ref, count(*) AS taken FROM import_jobs
        WHERE due_at IS NOT NULL AND EXISTS (SELECT 1 FROM in_batch)
        GROUP BY provider, account_ref
    ),
    candidates AS (
        SELECT organization_id, room, following.id, following.kind
        FROM organizations CROSS JOIN LATERAL (
            SELECT id, (state = 'queued')::int AS kind FROM import_jobs AS job
            WHERE {_HELD_ALONE} AND job.organization_id = organizations.organization_id
              AND (job.provider, job.account_ref) NOT IN (SELECT * FROM limited)
            ORDER BY (state = 'queued'), id
            LIMIT greatest(organizations.room + {UNDO_PLACES}, 0)
        ) AS following
        UNION ALL
        SELECT organization_id, room, id, 2 FROM (
            SELECT organization_id, room, free.left_over, following.id, row_number() OVER (
                PARTITION BY in_batch.provider, in_batch.account_ref ORDER BY following.id
            ) AS nth
            FROM in_batch
            JOIN organizations USING (organization_id)
            LEFT JOIN accounts USING (provider, account_ref)
            CROSS JOIN LATERAL (
                SELECT :per_account - coalesce(accounts.taken, 0) AS left_over
            ) AS free
            CROSS JOIN LATERAL (
                SELECT id FROM import_jobs AS job
                WHERE {_HELD_IN_BATCH} AND job.organization_id = in_batch.organization_id
                  AND job.provider = in_batch.provider AND job.account_ref = in_batch.account_ref
                ORDER BY id
                LIMIT greatest(least(organizations.room, free.left_over), 0)
            ) AS following
            WHERE (in_batch.provider, in_batch.account_ref) NOT IN (SELECT * FROM limited)
        ) AS of_account
        WHERE nth <= left_over
    ),
    turns AS (
        SELECT id, kind, room, row_number() OVER (
            PARTITION BY organization_id ORDER BY kind, id
        ) AS turn
        FROM candidates
    )
    SELECT id FROM turns
    WHERE turn <= room + CASE kind WHEN 0 THEN {UNDO_PLACES} ELSE 0 END
    ORDER BY turn, id LIMIT :most
    """  # noqa: S608 -- constants
_GOING_OF_ALL: Final = text(_GOING.format(holders=_HOLDERS, whose="organization_id IS NOT NULL"))
_GOING_OF_ONE: Final = text(_GOING.format(holders=_HOLDER, whose="organization_id = :organization"))


#: Columns of a job that starts at once: as if its message had been sent. The sender reports a
#: failure, and a crash before it could send is found by the sweep once this time has come.
#: Both stay empty where a job is held.
START: Final = {
    "sent_at": case((bindparam("at_once", type_=Boolean), NOW)),
    "due_at": case((bindparam("at_once", type_=Boolean), NOW + bindparam("resend_after"))),
    "backlog": bindparam("in_backlog", type_=Boolean),
}


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a job starts: at once, or held because no place is free."""

    at_once: bool
    #: Whether its messages go by the queue of those who wait for others of their organisation.
    in_backlog: bool

    def columns(self, *, resend_after_seconds: float) -> dict[str, Any]:
        """Returns what the job's row says of it: START, written out."""
        if not self.at_once:
            return {"sent_at": None, "due_at": None, "backlog": self.in_backlog}
        return {
            "sent_at": NOW,
            "due_at": in_seconds(resend_after_seconds),
            "backlog": self.in_backlog,
        }


def find_place(connection: Connection, organization_id: UUID, *, undo: bool, places: int) -> Start:
    """Returns how a job of an organisation starts that has so many places.

    A soft limit: requests at the same moment may each find the last place.
    """
    places += UNDO_PLACES if undo else 0
    found = _ROOM.execute(connection, organization=organization_id, places=places).one()
    # Whoever has waited longer goes first; but undoing waits for undoing alone.
    others = (JobState.UNDOING,) if undo else (JobState.UNDOING, JobState.QUEUED)
    if found.next_state in others or found.under_way >= places:
        return Start(at_once=False, in_backlog=True)
    return Start(at_once=True, in_backlog=found.under_way >= EXPRESS_PLACES)


def lock_feeding(connection: Connection) -> None:
    """Waits until nobody else feeds or cancels held jobs, until the transaction ends."""
    connection.execute(select(func.pg_advisory_xact_lock(_FEEDING_LOCK)))


class Places:
    """Lets held jobs go."""

    def __init__(self, engine: Engine, *, resend_after_seconds: float) -> None:
        self._engine = engine
        self._single = one_statement(engine)
        self._resend_after = resend_after_seconds

    def take_held(
        self, *, per_organization: int, per_account: int, limit: int, after: UUID | None = None
    ) -> list[UUID]:
        """Lets held jobs go, for their message to be sent; returns which.

        No organisation gets more than ``per_organization`` jobs under way, no provider account more
        than ``per_account`` by batches, other jobs counted, and none while its provider limits it.
        ``after`` is a job that may have ended: then only its organisation's places are filled, and
        nothing happens if it goes on.

        Safe to repeat: yes, also concurrently; each job goes once.
        """
        asked: dict[str, Any] = {"per_organization": per_organization, "per_account": per_account}
        query = _GOING_OF_ALL
        if after is not None:
            # Mostly nobody waits: asked without the round trips of a transaction.
            with self._single.connect() as connection:
                asked["organization"] = connection.execute(_ENDED, {"after": after}).scalar()
            if asked["organization"] is None:
                return []
            query = _GOING_OF_ONE
        with self._engine.begin() as connection:
            lock_feeding(connection)
            chosen = list(connection.execute(query, {**asked, "most": limit}).scalars())
            if not chosen:
                return []
            rows = connection.execute(
                update(ImportJob)
                .where(ImportJob.id.in_(chosen), IS_HELD)
                .values(sent_at=NOW, due_at=in_seconds(self._resend_after), backlog=True)
                .returning(ImportJob.id)
            )
            gone = set(rows.scalars())
            return [job_id for job_id in chosen if job_id in gone]
