"""The judge of the model: reads rows and their whole history, and says what is wrong with them.

It asks the database, never the code under test. Triggers of the test's own database keep every
change of a row with the transaction that made it, so that what comes and goes within one call of
the product is judged too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from tests.model.outside import KINDS, OURS, Outside, ours
from tests.model.steps import RETRY
from worker.domain.job import CHANGES, FINAL, OPEN, PLANS, TRANSITIONS, JobKind, JobState, StepName
from worker.domain.values import format_id
from worker.steps._core import UNDO

Row = Mapping[str, Any]

_WATCHED: Final = ("import_jobs", "job_steps", "phone_numbers")
_SETUP: Final = """
CREATE TABLE model_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx bigint NOT NULL, name text NOT NULL, old jsonb, new jsonb
);
CREATE FUNCTION model_remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO model_history (tx, name, old, new) VALUES (
        txid_current(), TG_TABLE_NAME,
        to_jsonb(OLD) - 'sealed' - 'request', to_jsonb(NEW) - 'sealed' - 'request'
    );
    RETURN NULL;
END $$;
"""
#: A claim may begin this much before its time: clocks of two machines are never quite equal.
_EARLY: Final = timedelta(milliseconds=250)
#: An account is limited for 315 s at most, and what its jobs wait for is spread a little.
_LONGEST_WAIT: Final = timedelta(seconds=360)
_RESEND: Final = timedelta(seconds=30)
_SLACK: Final = timedelta(seconds=1)
_ORDER: Final = [str(step) for step in StepName]
#: Status of a number → what it may become; None is no row.
_STATUSES: Final[Mapping[str, set[str | None]]] = {
    "pending": {"pending", "active", None},
    "active": {"active", "pending", "releasing"},
    "releasing": {"releasing", "released"},
    "released": {"released"},
}
#: State of an import → what its numbers may be; of any other state it has one that is not given up.
_ROWS: Final[Mapping[str, list[list[str]]]] = {
    JobState.ACTIVE: [["active"], ["releasing"], ["released"]],
    JobState.FAILED: [[]],
    JobState.CANCELLED: [[]],
}


def watch(connection: psycopg.Connection[Any]) -> None:
    """Lets the database remember each change of a row."""
    connection.execute(_SETUP)
    for table in _WATCHED:
        connection.execute(
            f"CREATE TRIGGER model AFTER INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION model_remember()"
        )


class Judge:
    """What is known of one example so far."""

    def __init__(self, connection: psycopg.Connection[Any], outside: Outside) -> None:
        self._connection = connection
        self._outside = outside
        self._seen = 0
        self._claimed: set[tuple[int, str]] = set()
        #: Transactions in which a worker went on with a job's next step, and those that ended one.
        self._went_on: set[tuple[int, str, str]] = set()
        self._done: set[tuple[int, str, str]] = set()
        self._undone: dict[str, int] = {}
        self._told: dict[str, list[str]] = defaultdict(list)
        #: Numbers whose last change failed: what is outside may be of either.
        self._torn: set[str] = set()
        self._wrongs: list[str] = []

    def changes(self) -> int:
        """Returns how many changes of rows there have been."""
        row = self._connection.execute("SELECT max(id) FROM model_history").fetchone()
        return (row and row[0]) or 0

    def check(self, *, outside: bool = True) -> None:
        """Makes sure that all holds that must hold at any moment; of the rows, and outside.

        Raises:
            AssertionError: it does not; names everything that is wrong.
        """
        for change in self._rows(
            "SELECT * FROM model_history WHERE id > %s ORDER BY id", self._seen
        ):
            self._seen = change["id"]
            judged = getattr(self, f"_judge_{change['name']}")
            judged(change["tx"], change["old"], change["new"])
        for _, job, step in self._went_on - self._done:
            self._hold(holds=False, wrong=f"job {job}: went on from {step}, which had not ended")
        jobs = {
            row["id"]: row
            for row in self._rows("SELECT *, clock_timestamp() AS now FROM import_jobs")
        }
        numbers = self._rows("SELECT * FROM phone_numbers")
        self._check_progress(jobs)
        self._check_numbers(jobs, numbers)
        self._check_told(jobs)
        if outside:
            self._check_outside(jobs, numbers)
        wrongs = [*self._wrongs, *self._outside.wrongs]
        assert not wrongs, "\n".join(wrongs)

    def _rows(self, query: str, *values: object) -> Sequence[Row]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), values).fetchall()

    def _hold(self, holds: object, wrong: str) -> None:
        if not holds:
            self._wrongs.append(wrong)

    # What became of a row

    def _judge_import_jobs(self, tx: int, old: Row | None, new: Row | None) -> None:
        if old is None or new is None:
            # A row of a batch whose number is taken is gone in the transaction that made it.
            made = new or old
            assert made is not None
            self._hold(made["fence"] == 0, f"a job that was begun is gone: {made}")
            return
        job = f"job {new['id']} ({new['kind']})"
        before, after = JobState(old["state"]), JobState(new["state"])
        at_one_stroke = (before, after) == (JobState.QUEUED, JobState.CANCELLED) and (
            new["batch_id"] is not None and old["due_at"] is None
        )
        if before is not after:
            self._hold(
                after in TRANSITIONS[before] or at_one_stroke, f"{job}: {before} became {after}"
            )
            if after in FINAL and new["notify"]:
                self._told[new["id"]].append(f"{new['kind']}.{after}")
            if after is JobState.UNDOING and before is not JobState.STUCK:
                self._undone[new["id"]] = len(_ORDER)
            if after in FINAL and new["kind"] in CHANGES:
                self._note_change(new, after)
        self._judge_claim(job, tx, old, new)
        self._judge_cursor(job, old, new)
        seen_by_callers = ("state", "step", "cancel_requested_at", "error_code", "undo_error_code")
        if any(old[name] != new[name] for name in seen_by_callers):
            self._hold(new["version"] > old["version"], f"{job}: changed without a new version")

    def _note_change(self, job: Row, after: JobState) -> None:
        number = job["phone_number_id"]
        if after is JobState.FAILED:
            self._torn.add(number)
            return
        self._torn.discard(number)
        if job["kind"] == JobKind.REPAIR:
            self._outside.robbed.discard(format_id("imp", UUID(job["import_id"])))

    def _judge_claim(self, job: str, tx: int, old: Row, new: Row) -> None:
        """Who works on a job is said by its fence and its lease."""
        now = _time(new["updated_at"])
        if new["fence"] == old["fence"]:
            renewed = new["lease_until"] is None or old["lease_until"] is not None
            self._hold(renewed, f"{job}: a lease without a claim")
            return
        self._hold(new["fence"] == old["fence"] + 1, f"{job}: the fence jumped")
        self._claimed.add((tx, new["id"]))
        lease, waits = old["lease_until"], old["next_attempt_at"]
        if old["step"] != new["step"]:
            # Its holder goes on: with this change the step must have ended.
            self._went_on.add((tx, new["id"], old["step"]))
        else:
            self._hold(lease is None or _time(lease) <= now, f"{job}: claimed under a live lease")
        early = waits is not None and _time(waits) > now + _EARLY
        self._hold(not early, f"{job}: claimed before its time")
        self._hold(new["lease_until"] is not None, f"{job}: claimed without a lease")
        working = new["state"] in (JobState.RUNNING, JobState.UNDOING)
        self._hold(working, f"{job}: claimed while {new['state']}")

    def _judge_cursor(self, job: str, old: Row, new: Row) -> None:
        """The cursor goes down the plan, and back up; never does it jump ahead."""
        before, after, state = old["step"], new["step"], new["state"]
        moved = f"{job}: cursor from {before} to {after} while {old['state']} → {state}"
        plan = PLANS[JobKind(new["kind"])]
        if state == JobState.STUCK or state not in FINAL:
            ends = after is None and state == JobState.UNDOING
            self._hold(after is not None or ends, moved)
        else:
            self._hold(after is None, moved)
        if before is None or after is None:
            if after is not None:
                self._hold(state == JobState.QUEUED and after == plan[0], moved)
        elif state == JobState.RUNNING and before != after:
            self._hold(plan.index(StepName(after)) == plan.index(StepName(before)) + 1, moved)
        elif state == JobState.UNDOING:
            self._hold(_ORDER.index(after) <= _ORDER.index(before), moved)
        else:
            self._hold(before == after, moved)

    def _judge_job_steps(self, tx: int, old: Row | None, new: Row | None) -> None:
        if new is None:
            return  # a job that is tried again begins anew
        step = f"step {new['step']} of job {new['job_id']}"
        for name, most in (("attempts", RETRY.attempts), ("undo_attempts", UNDO.attempts)):
            more = new[name] - (0 if old is None else old[name])
            claimed = (tx, new["job_id"]) in self._claimed
            self._hold(more <= claimed, f"{step}: {more} more {name} without a claim")
            self._hold(0 <= new[name] <= most, f"{step}: {new[name]} {name}")
        if new["state"] == "done":
            self._done.add((tx, new["job_id"], new["step"]))
        if new["state"] == "undone" and (old is None or old["state"] != "undone"):
            place = _ORDER.index(new["step"])
            last = self._undone.get(new["job_id"], len(_ORDER))
            self._hold(place < last, f"{step}: undone after step {last}")
            self._undone[new["job_id"]] = place

    def _judge_phone_numbers(self, _tx: int, old: Row | None, new: Row | None) -> None:
        after = None if new is None else new["status"]
        if old is None:
            self._hold(after == "pending", f"a number came as {after}")
        else:
            self._hold(
                after in _STATUSES[old["status"]],
                f"number {old['id']}: {old['status']} became {after}",
            )

    # What rows say now

    def _check_progress(self, jobs: Mapping[UUID, Row]) -> None:
        """No open job waits for nobody, and no ended one for somebody."""
        for job in jobs.values():
            name = f"job {job['id']} ({job['kind']}, {job['state']})"
            if job["state"] in FINAL:
                left = {
                    column: job[column]
                    for column in ("due_at", "lease_until", "next_attempt_at")
                    if job[column] is not None
                }
                self._hold(not left, f"{name} has ended, yet has {left}")
                self._hold(job["finished_at"] is not None, f"{name} ended at no time")
                continue
            held = job["state"] in (JobState.QUEUED, JobState.UNDOING)
            self._hold(job["due_at"] is not None or held, f"{name}: no sweep would look at it")
            if job["due_at"] is None:
                continue
            wait = job["due_at"] - job["now"]
            self._hold(wait < _LONGEST_WAIT, f"{name}: nobody looks for {wait}")
            if job["lease_until"] is not None:
                lasts = max(job["lease_until"] - job["now"], _RESEND)
                self._hold(wait < lasts + _SLACK, f"{name}: nobody looks when its lease ends")

    def _check_numbers(self, jobs: Mapping[UUID, Row], numbers: Sequence[Row]) -> None:
        held = [number for number in numbers if number["status"] != "released"]
        proven = Counter(row["e164"] for row in held if row["ownership"] == "proven")
        asserted = Counter(
            (row["organization_id"], row["e164"]) for row in held if row["ownership"] == "asserted"
        )
        for number, count in [*proven.items(), *asserted.items()]:
            self._hold(count == 1, f"{number} is held {count} times")
        open_jobs = [job for job in jobs.values() if job["state"] in OPEN]
        for number, count in Counter(job["phone_number_id"] for job in open_jobs).items():
            self._hold(count == 1, f"{count} open jobs on the number {number}")
        releases = {
            job["phone_number_id"]: job["state"]
            for job in jobs.values()
            if job["kind"] == JobKind.RELEASE
        }
        expected = {"releasing": OPEN, "released": {JobState.RELEASED}}
        brought = defaultdict(list)
        for number in numbers:
            brought[number["import_id"]].append(number["status"])
            states = expected.get(number["status"], {None})
            state = releases.get(number["id"])
            self._hold(state in states, f"{number['status']} number, but its release is {state}")
        for job in jobs.values():
            if job["kind"] == JobKind.IMPORT:
                rows = brought[job["id"]]
                fits = _ROWS.get(job["state"], [["pending"], ["active"]])
                self._hold(rows in fits, f"import {job['id']} is {job['state']}, its rows {rows}")

    def _check_told(self, jobs: Mapping[UUID, Row]) -> None:
        """Of each end its caller is told once, and of nothing else."""
        told = defaultdict(list)
        for row in self._rows("SELECT job_id, type FROM notifications ORDER BY created_at, id"):
            told[row["job_id"]].append(row["type"])
        for job_id in jobs:
            ends = self._told[str(job_id)]
            self._hold(
                Counter(told[job_id]) == Counter(ends),
                f"job {job_id} ended {ends}, told was {told[job_id]}",
            )

    def _check_outside(self, jobs: Mapping[UUID, Row], numbers: Sequence[Row]) -> None:
        """A final import has all of its objects and its calls, or nothing and what was before."""
        at_work = {job["phone_number_id"] for job in jobs.values() if job["state"] in OPEN}
        imports = {job["id"]: job for job in jobs.values() if job["kind"] == JobKind.IMPORT}
        status = {number["import_id"]: number for number in numbers}
        under_way = Counter(late.tag for late in self._outside.late)
        for job_id, job in imports.items():
            tag = format_id("imp", job_id)
            number = status.get(job_id)
            if number is None or number["status"] == "released":
                if job["state"] in FINAL and job["state"] != JobState.STUCK:
                    self._check_gone(tag, job, under_way[tag])
            elif number["status"] == "active" and number["id"] not in at_work:
                self._check_whole(tag, jobs, number, under_way[tag])

    def _check_gone(self, tag: str, job: Row, under_way: int) -> None:
        left = self._outside.made_for(tag)
        self._hold(not left, f"{tag} has ended ({job['state']}), yet left {left}")
        self._hold(not under_way, f"{tag} has ended ({job['state']}), yet a write is under way")
        routed = [e164 for e164, to in self._outside.numbers.items() if ours(tag) in to.values()]
        self._hold(not routed, f"{tag} has ended ({job['state']}), yet {routed} come to us")

    def _check_whole(self, tag: str, jobs: Mapping[UUID, Row], number: Row, under_way: int) -> None:
        if tag in self._outside.robbed:
            return
        for kind in KINDS:
            count = len(self._outside.ids(kind, tag))
            self._hold(count == 1, f"{tag} is active with {count} of {kind}")
        if number["ownership"] == "proven":
            routing = self._outside.numbers[number["e164"]]
            self._hold(set(routing.values()) == {ours(tag)}, f"{tag} is active, yet {routing}")
        if str(number["id"]) in self._torn:
            return
        self._hold(not under_way, f"{tag} is active and idle, yet a write is under way")
        wanted = jobs[number["job_id"] or number["import_id"]]["request"]["room_prefix"]
        for object_id in self._outside.ids("rule", tag):
            content = self._outside.things[object_id].content
            self._hold(content == wanted, f"{tag} was to have {wanted}, its rule has {content}")

    # What must be in the end

    def check_rest(self, originals: Mapping[str, Mapping[str, str]]) -> None:
        """Makes sure that numbers that nobody holds are exactly as they were, and nothing is left.

        Raises:
            AssertionError: they are not.
        """
        self.check()
        held = {
            row["e164"]
            for row in self._rows(
                "SELECT e164 FROM phone_numbers WHERE status <> 'released' AND ownership = 'proven'"
            )
        }
        for e164, original in originals.items():
            now = self._outside.numbers[e164]
            if e164 not in held:
                assert now == original, f"{e164} was {original}, is {now}"
                assert not [value for value in now.values() if value.startswith(OURS)]
        assert not self._outside.late, "writes are still under way"
        rows = self._rows("SELECT import_id FROM phone_numbers WHERE status <> 'released'")
        tags = {format_id("imp", row["import_id"]) for row in rows}
        left = [one for one, thing in self._outside.things.items() if thing.tag not in tags]
        assert not left, f"nobody's: {left}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
