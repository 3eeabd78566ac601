"""Deliveries to real receivers, checked by a reading of the specification that is not ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from deploy.local.waiting import LOOPBACK, free_port
from tests.integration.db.conftest import Bench
from tests.receiver import Received, Receiver, Told, receiving
from worker.db.engine import make_engine
from worker.db.notifications import (
    Notifications,
    add_job_notification,
    add_number_notification,
)
from worker.db.records import NotificationRecord
from worker.db.vault import Vault
from worker.domain.calls import NotificationState
from worker.notifications import WAITS, Courier, SigningSecrets
from worker.settings import Settings

_serial = itertools.count(5550000)

AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]


def verify(secret: str, received: Received) -> dict[str, Any]:
    """Checks a message as its receiver must, after the specification's text alone."""
    message_id = received.headers["webhook-id"]
    timestamp = received.headers["webhook-timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    assert "." not in message_id
    scheme, key = secret[:6], secret[6:]
    assert scheme == "whsec_"
    signed = b".".join([message_id.encode(), timestamp.encode(), received.body])
    expected = hmac.new(base64.b64decode(key, validate=True), signed, hashlib.sha256).digest()
    given = [one.split(",", 1) for one in received.headers["webhook-signature"].split(" ")]
    assert any(
        version == "v1" and hmac.compare_digest(base64.b64decode(signature), expected)
        for version, signature in given
    ), "no signature fits"
    found: dict[str, Any] = json.loads(received.body)
    return found


@dataclass(frozen=True, kw_only=True)
class Post:
    """What a courier works with, and a number's import whose callback_url is a receiver's."""

    bench: Bench
    settings: Settings
    store: Notifications
    receiver: Receiver

    def courier(self, **changes: Any) -> Courier:
        settings = self.settings.model_copy(update=changes)
        return Courier(settings, self.store, self.bench.vault, timeout_seconds=0.5)

    def add(self, url: str | None = None, *, organization_id: UUID | None = None) -> UUID:
        """Ends a job whose callback_url this is; returns its id."""
        secrets = {"fingerprint": "f", "callback_url": url or self.receiver.url}
        job_id = self.bench.submit(
            f"+1415{next(_serial):07}",
            sealed=self.bench.vault.seal(secrets),
        )
        with self.bench.engine.begin() as connection:
            add_job_notification(
                connection,
                organization_id=organization_id or self.bench.organization_id,
                job_id=job_id,
                type="import.active",
                payload={"id": "imp_1", "status": "active", "metadata": {"z": 1, "a": [None, 2]}},
            )
        return job_id

    def record(self, job_id: UUID) -> NotificationRecord:
        [record] = self.store.of_job(job_id)
        return record

    def make_due(self) -> None:
        self.bench.sql("UPDATE notifications SET due_at = now() WHERE state = 'pending'")

    def secret(self) -> str:
        return SigningSecrets(self.store, self.bench.vault).get(self.bench.organization_id).current


@pytest.fixture
def post(bench: Bench, settings: Settings) -> Iterator[Post]:
    with receiving() as receiver:
        yield Post(
            bench=bench,
            settings=settings.model_copy(update={"notify_loopback": True}),
            store=Notifications(bench.engine),
            receiver=receiver,
        )


def test_a_notification_arrives_signed(post: Post) -> None:
    job_id = post.add()
    before = datetime.now(UTC) - timedelta(seconds=5)

    assert post.courier().deliver_due(5) == 1

    [got] = post.receiver.received
    message = verify(post.secret(), got)
    assert message["type"] == "import.active"
    assert message["data"] == {
        "id": "imp_1",
        "status": "active",
        "metadata": {"z": 1, "a": [None, 2]},
    }
    assert message["timestamp"].endswith("Z")
    assert before < datetime.fromisoformat(message["timestamp"]) < datetime.now(UTC)
    record = post.record(job_id)
    assert got.headers["webhook-id"] == f"msg_{record.id.hex}"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("Trunkline/")
    assert (record.state, record.attempts, record.error) == (NotificationState.DELIVERED, 1, None)
    assert post.courier().deliver_due(5) == 0
    assert len(post.receiver.received) == 1


def test_a_changed_body_does_not_verify(post: Post) -> None:
    """The check above can fail."""
    post.add()
    post.courier().deliver_due(5)
    [got] = post.receiver.received
    forged = Received(
        method=got.method,
        path=got.path,
        headers=got.headers,
        body=got.body.replace(b"active", b"failed"),
    )
    with pytest.raises(AssertionError, match="no signature fits"):
        verify(post.secret(), forged)


def test_an_event_is_told_with_its_data(post: Post) -> None:
    job_id = post.add()
    post.courier().deliver_due(5)
    sealed = post.bench.vault.seal({"message_id": "SM1", "text": "Ihr Code: 1234 ✓"})
    event_id = UUID(int=7)
    post.bench.sql(
        "INSERT INTO number_events (id, organization_id, phone_number_id, kind, key, sealed) "
        "SELECT :id, organization_id, id, 'sms', 'k', :sealed FROM phone_numbers",
        id=event_id,
        sealed=sealed,
    )
    with post.bench.engine.begin() as connection:
        add_number_notification(
            connection,
            organization_id=post.bench.organization_id,
            secrets_of=job_id,
            event_id=event_id,
            type="sms.received",
            payload={"phone_number_id": "num_1"},
        )

    post.courier().deliver_due(5)

    message = verify(post.secret(), post.receiver.received[-1])
    assert message["type"] == "sms.received"
    assert message["data"] == {
        "phone_number_id": "num_1",
        "message_id": "SM1",
        "text": "Ihr Code: 1234 ✓",
    }


def test_it_is_tried_for_a_day_and_is_the_same_each_time(post: Post) -> None:
    job_id = post.add()
    post.receiver.script = lambda _: Told(status=500)
    courier = post.courier()

    for attempt, wait in enumerate(WAITS, start=1):
        assert courier.deliver_due(5) == 1
        record = post.record(job_id)
        assert (record.state, record.attempts) == (NotificationState.PENDING, attempt)
        assert record.error == "The receiver answered 500."
        assert record.due_at is not None
        left = (record.due_at - datetime.now(UTC)).total_seconds()
        assert wait * 0.9 - 3 < left <= wait * 1.1, attempt
        post.make_due()
    assert courier.deliver_due(5) == 1

    record = post.record(job_id)
    assert (record.state, record.attempts) == (NotificationState.FAILED, len(WAITS) + 1)
    assert courier.deliver_due(5) == 0
    received = post.receiver.received
    assert len(received) == len(WAITS) + 1
    assert len({(one.body, one.headers["webhook-id"]) for one in received}) == 1
    for one in received:
        verify(post.secret(), one)


def test_the_time_of_the_attempt_is_signed_and_not_that_of_the_event(post: Post) -> None:
    post.add()
    post.bench.sql("UPDATE notifications SET created_at = now() - interval '2 hours'")
    post.courier().deliver_due(5)
    [got] = post.receiver.received
    message = verify(post.secret(), got)
    happened = datetime.fromisoformat(message["timestamp"]).timestamp()
    assert int(got.headers["webhook-timestamp"]) - happened == pytest.approx(7200, abs=10)


def test_the_waits_can_be_scaled(post: Post) -> None:
    job_id = post.add()
    post.receiver.script = lambda _: Told(status=500, headers={"Retry-After": "60"})
    post.courier(retry_scale=0.001).deliver_due(0.05)
    time.sleep(0.1)
    post.receiver.script = lambda _: Told()
    assert post.courier().deliver_due(5) == 1
    assert post.record(job_id).state is NotificationState.DELIVERED


@pytest.mark.parametrize(("asked", "wait"), [("120", 120), ("86400", 3600), ("1", 5)])
def test_a_receiver_says_when_to_come_again(post: Post, asked: str, wait: float) -> None:
    job_id = post.add()
    post.receiver.script = lambda _: Told(status=429, headers={"Retry-After": asked})
    post.courier().deliver_due(5)
    due_at = post.record(job_id).due_at
    assert due_at is not None
    assert (due_at - datetime.now(UTC)).total_seconds() == pytest.approx(wait, abs=3, rel=0.1)


def test_a_receiver_that_is_gone_is_not_asked_again(post: Post) -> None:
    job_id = post.add()
    post.receiver.script = lambda _: Told(status=410)
    post.courier().deliver_due(5)
    post.make_due()
    assert post.courier().deliver_due(5) == 0
    record = post.record(job_id)
    assert (record.state, record.attempts) == (NotificationState.FAILED, 1)
    assert record.error == "The receiver answered 410."


def test_a_redirect_is_a_failure(post: Post) -> None:
    with receiving() as elsewhere:
        job_id = post.add()
        post.receiver.script = lambda _: Told(status=308, headers={"Location": elsewhere.url})
        post.courier().deliver_due(5)
        assert elsewhere.received == []
    record = post.record(job_id)
    assert (record.state, record.error) == (
        NotificationState.PENDING,
        "The receiver answered 308.",
    )


def test_a_name_that_leads_inside_since_its_submit_is_refused(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = post.add(f"https://hook.example:{post.receiver.port}/?key=planted")
    inside = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOOPBACK, post.receiver.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: inside)

    post.courier(notify_loopback=False).deliver_due(5)

    assert post.receiver.received == []
    record = post.record(job_id)
    assert record.state is NotificationState.PENDING
    assert record.error == "callback_url must not lead to a private or reserved address."


def test_a_receiver_that_cannot_be_reached_is_named_without_its_url(
    post: Post, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id = post.add(f"http://{LOOPBACK}:{free_port()}/planted?key=planted")
    post.courier().deliver_due(5)
    assert post.record(job_id).error == "The connection was refused."
    logged = capsys.readouterr().out
    assert "notification failed" in logged
    assert "planted" not in logged
    assert LOOPBACK not in logged


def test_many_couriers_deliver_each_once(post: Post, at_once: AtOnce) -> None:
    for _ in range(20):
        post.add()

    tried = at_once(4, lambda _: post.courier().deliver_due(10))

    assert sum(tried) == 20
    ids = [one.headers["webhook-id"] for one in post.receiver.received]
    assert len(ids) == len(set(ids)) == 20


def deliver(settings: Settings) -> None:
    """A courier's life in a process of its own."""
    store = Notifications(make_engine(settings))
    Courier(settings, store, Vault(settings.vault_keys)).deliver_due(5)


def test_a_courier_that_is_killed_is_followed_by_another(post: Post) -> None:
    """What was heard may be heard again, and says so by its id."""
    job_id = post.add()
    heard, killed = threading.Event(), threading.Event()

    def hold(_: Received) -> Told:
        heard.set()
        killed.wait(10)
        return Told()

    post.receiver.script = hold
    process = multiprocessing.get_context("spawn").Process(target=deliver, args=(post.settings,))
    process.start()
    assert heard.wait(20)
    process.kill()
    process.join()
    killed.set()
    assert post.record(job_id).state is NotificationState.PENDING
    # Until its lease has run out it may still live.
    assert post.courier().deliver_due(5) == 0

    post.make_due()
    assert post.courier().deliver_due(5) == 1

    first, second = post.receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    record = post.record(job_id)
    assert (record.state, record.attempts) == (NotificationState.DELIVERED, 2)


def test_one_that_kills_every_courier_ends(post: Post) -> None:
    job_id = post.add()
    for _ in range(len(WAITS) + 1):
        assert post.store.take_due(0) is not None
    post.courier().deliver_due(5)
    assert post.receiver.received == []
    assert post.record(job_id).state is NotificationState.FAILED


def test_a_slow_receiver_holds_up_nobody_else(post: Post) -> None:
    other = post.bench.directory.create_organization("Other")
    with socket.create_server((LOOPBACK, 0)) as silent:
        url = f"http://{LOOPBACK}:{silent.getsockname()[1]}/"
        slow = [post.add(url) for _ in range(5)]
        # The same host is another receiver if another customer names it: neither can silence it
        # for the other.
        same_host = post.add(url, organization_id=other)
        quick = post.add()
        began = time.monotonic()

        assert post.courier().deliver_due(10) == 7

        assert 1.0 <= time.monotonic() - began < 2
    assert post.record(quick).state is NotificationState.DELIVERED
    assert post.record(same_host).error == "There was no answer within 0.5 seconds."
    errors = [post.record(job_id).error or "" for job_id in slow]
    assert sum("was not tried" in error for error in errors) == 4
    assert {post.record(job_id).attempts for job_id in slow} == {1}


def test_a_courier_stops_when_its_time_is_up(post: Post) -> None:
    for _ in range(3):
        post.add()

    def slowly(_: Received) -> Told:
        time.sleep(0.2)
        return Told()

    post.receiver.script = slowly
    assert post.courier().deliver_due(0.1) == 1
    assert post.bench.sweeps.look(letters=9).letters == 2


def test_a_job_without_a_url_tells_nobody(post: Post) -> None:
    job_id = post.add()
    post.bench.sql(
        "UPDATE import_jobs SET sealed = :sealed", sealed=post.bench.vault.seal({"fingerprint": ""})
    )
    post.courier().deliver_due(5)
    assert post.record(job_id).state is NotificationState.FAILED
    assert post.receiver.received == []


def test_a_missing_vault_key_is_waited_for(post: Post) -> None:
    job_id = post.add()
    keyless = Vault((SecretStr(Fernet.generate_key().decode()),))
    Courier(post.settings, post.store, keyless).deliver_due(5)
    assert post.record(job_id).state is NotificationState.PENDING
    post.make_due()
    post.courier().deliver_due(5)
    assert post.record(job_id).state is NotificationState.DELIVERED


# Secrets


def test_all_who_need_a_secret_first_at_once_get_the_same(post: Post, at_once: AtOnce) -> None:
    found = at_once(8, lambda _: post.secret())
    assert len(set(found)) == 1
    assert len(base64.b64decode(found[0].removeprefix("whsec_"), validate=True)) == 32


def test_a_replaced_secret_goes_on_signing_for_a_day(post: Post) -> None:
    secrets = SigningSecrets(post.store, post.bench.vault)
    old = post.secret()

    rotated = secrets.rotate(post.bench.organization_id)

    assert (rotated.previous, rotated.current != old) == (old, True)
    assert rotated.previous_until is not None
    day = rotated.previous_until - datetime.now(UTC)
    assert timedelta(hours=23, minutes=59) < day <= timedelta(days=1)
    post.add()
    post.courier().deliver_due(5)
    [got] = post.receiver.received
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    verify(old, got)
    verify(rotated.current, got)


def test_a_replaced_secret_ends_after_its_day(post: Post) -> None:
    secrets = SigningSecrets(post.store, post.bench.vault)
    old = post.secret()
    secrets.rotate(post.bench.organization_id)
    [(sealed,)] = post.bench.sql("SELECT sealed FROM organizations")
    data = post.bench.vault.open(bytes(sealed))
    data["previous_until"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    post.bench.sql("UPDATE organizations SET sealed = :sealed", sealed=post.bench.vault.seal(data))
    post.add()

    post.courier().deliver_due(5)

    [got] = post.receiver.received
    assert len(got.headers["webhook-signature"].split(" ")) == 1
    verify(post.secret(), got)
    with pytest.raises(AssertionError, match="no signature fits"):
        verify(old, got)


def test_two_rotations_at_once_are_one_after_the_other(post: Post, at_once: AtOnce) -> None:
    secrets = SigningSecrets(post.store, post.bench.vault)
    old = post.secret()
    found = at_once(2, lambda _: secrets.rotate(post.bench.organization_id))
    first, second = sorted(found, key=lambda one: one.previous != old)
    assert (first.previous, second.previous) == (old, first.current)
    assert post.secret() == second.current
