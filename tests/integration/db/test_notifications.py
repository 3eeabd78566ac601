"""What is to be told is stored with what happened, and taken by one sender at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from tests.integration.db.conftest import Bench
from worker.db.notifications import (
    DueNotification,
    Notifications,
    add_job_notification,
    add_number_notification,
)
from worker.db.records import NotificationRecord
from worker.domain.calls import NotificationState

AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]


@pytest.fixture
def store(bench: Bench) -> Notifications:
    return Notifications(bench.engine)


def add(bench: Bench, job_id: UUID, **payload: Any) -> None:
    with bench.engine.begin() as connection:
        add_job_notification(
            connection,
            organization_id=bench.organization_id,
            job_id=job_id,
            type="import.active",
            payload=payload,
        )


def take(store: Notifications, lease_seconds: float = 30) -> DueNotification:
    due = store.take_due(lease_seconds)
    assert due is not None
    return due


def only(store: Notifications, job_id: UUID) -> NotificationRecord:
    [record] = store.of_job(job_id)
    return record


def test_it_is_stored_with_what_it_tells_or_not_at_all(bench: Bench, store: Notifications) -> None:
    job_id = bench.submit()

    def end_badly() -> None:
        with bench.engine.begin() as connection:
            add_job_notification(
                connection,
                organization_id=bench.organization_id,
                job_id=job_id,
                type="import.active",
                payload={},
            )
            raise RuntimeError

    with pytest.raises(RuntimeError):
        end_badly()
    assert store.take_due(30) is None
    assert store.of_job(job_id) == []


def test_what_is_taken_says_all_that_a_sender_needs(bench: Bench, store: Notifications) -> None:
    job_id = bench.submit(sealed=bench.vault.seal({"callback_url": "https://a.example/?k=planted"}))
    add(bench, job_id, id="imp_1", status="active")

    due = take(store)

    assert (due.organization_id, due.type, due.attempt) == (
        bench.organization_id,
        "import.active",
        1,
    )
    assert due.payload == {"id": "imp_1", "status": "active"}
    assert bench.vault.open(due.job_sealed) == {"callback_url": "https://a.example/?k=planted"}
    assert (due.organization_sealed, due.event_sealed) == (None, None)
    assert "gAAAA" not in repr(due)


def test_an_event_is_told_with_its_sealed_data(bench: Bench, store: Notifications) -> None:
    job_id = bench.submit()
    number_id = bench.get(job_id).phone_number_id
    event_id = UUID(int=1)
    bench.sql(
        "INSERT INTO number_events (id, organization_id, phone_number_id, kind, key, sealed) "
        "VALUES (:id, :organization, :number, 'sms', 'k', :sealed)",
        id=event_id,
        organization=bench.organization_id,
        number=number_id,
        sealed=bench.vault.seal({"text": "planted"}),
    )
    with bench.engine.begin() as connection:
        add_number_notification(
            connection,
            organization_id=bench.organization_id,
            secrets_of=job_id,
            event_id=event_id,
            type="sms.received",
            payload={},
        )

    due = take(store)

    assert due.event_sealed is not None
    assert bench.vault.open(due.event_sealed) == {"text": "planted"}
    assert store.of_job(job_id) == []
    # With the event goes what would tell it; the sender finds nothing to write down.
    bench.sql("DELETE FROM number_events")
    store.delivered(due.id)
    assert bench.sql("SELECT count(*) FROM notifications")[0][0] == 0


def test_the_one_that_waited_longest_comes_first(bench: Bench, store: Notifications) -> None:
    late, early = bench.submit(), bench.submit("+14155550101")
    add(bench, late, n=1)
    add(bench, early, n=2)
    bench.sql(
        "UPDATE notifications SET due_at = now() - interval '1 min' WHERE job_id = :id", id=early
    )
    assert [take(store).payload["n"], take(store).payload["n"]] == [2, 1]
    assert store.take_due(30) is None


def test_each_is_taken_by_one(bench: Bench, store: Notifications, at_once: AtOnce) -> None:
    job_id = bench.submit()
    for _ in range(5):
        add(bench, job_id)

    taken = at_once(8, lambda _: store.take_due(30))

    ids = [due.id for due in taken if due is not None]
    assert len(ids) == len(set(ids)) == 5


def test_nobody_waits_for_one_that_is_being_taken(bench: Bench, store: Notifications) -> None:
    job_id = bench.submit()
    add(bench, job_id, n=1)
    add(bench, job_id, n=2)
    with ThreadPoolExecutor(1) as pool, bench.engine.begin() as connection:
        connection.execute(text("SELECT id FROM notifications ORDER BY due_at LIMIT 1 FOR UPDATE"))
        due = pool.submit(store.take_due, 30).result(timeout=5)
    assert due is not None
    assert due.payload == {"n": 2}


def test_changes_of_a_secret_come_one_after_the_other(
    bench: Bench, store: Notifications, at_once: AtOnce
) -> None:
    def slowly(found: bytes | None) -> bytes:
        time.sleep(0.05)
        return (found or b"") + b"x"

    at_once(4, lambda _: store.change_signing(bench.organization_id, slowly))

    assert store.signing_sealed(bench.organization_id) == b"xxxx"
    # Meanwhile what refers to the organisation may be stored.
    with ThreadPoolExecutor(1) as pool:

        def submit(_: bytes | None) -> None:
            pool.submit(bench.submit).result(timeout=5)

        assert store.change_signing(bench.organization_id, submit) == b"xxxx"


def test_one_whose_sender_died_is_taken_again(bench: Bench, store: Notifications) -> None:
    add(bench, bench.submit())
    first = take(store, 0.2)
    assert store.take_due(30) is None
    time.sleep(0.25)
    again = take(store)
    assert (again.id, again.attempt) == (first.id, 2)


def test_a_failed_one_waits_for_its_time(bench: Bench, store: Notifications) -> None:
    job_id = bench.submit()
    add(bench, job_id)
    due = take(store)

    store.failed(due.id, "It failed.", timedelta(seconds=0.2), attempt=1)

    assert store.take_due(30) is None
    record = only(store, job_id)
    assert (record.state, record.attempts, record.error) == (
        NotificationState.PENDING,
        1,
        "It failed.",
    )
    time.sleep(0.25)
    assert take(store).attempt == 2


def test_a_given_up_one_is_never_taken_again(bench: Bench, store: Notifications) -> None:
    job_id = bench.submit()
    add(bench, job_id)

    store.failed(take(store).id, "It failed.", None, attempt=1)

    record = only(store, job_id)
    assert (record.state, record.due_at) == (NotificationState.FAILED, None)
    assert record.finished_at is not None
    assert store.take_due(30) is None


def test_who_was_given_up_for_dead_does_not_disturb_its_successor(
    bench: Bench, store: Notifications
) -> None:
    job_id = bench.submit()
    add(bench, job_id)
    first = take(store, 0)
    take(store)

    store.failed(first.id, "Too late.", timedelta(0), attempt=1)
    store.failed(first.id, "Too late.", None, attempt=1)

    assert store.take_due(30) is None
    assert only(store, job_id).error is None
    # But what arrived has arrived, whoever brought it.
    store.delivered(first.id)
    store.failed(first.id, "It failed.", timedelta(0), attempt=2)
    record = only(store, job_id)
    assert (record.state, record.error) == (NotificationState.DELIVERED, None)
