"""Tells customers at their callback_url how their imports ended and what their numbers report.

A notification is stored with what it tells, in one transaction (:mod:`worker.db.notifications`);
here it is signed and delivered, at least once, after Standard Webhooks:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.metadata
import json
import random
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from worker import metrics
from worker.addresses import NotReached, TooSlow
from worker.db.notifications import DueNotification, Notifications
from worker.db.vault import Vault, VaultKeyMissingError
from worker.domain.errors import InvalidRequest
from worker.domain.values import format_id
from worker.outward import TOTAL_SECONDS, Reply, parse_retry_after, post
from worker.settings import Settings

_log: Final = structlog.get_logger(__name__)

#: Seconds before each further attempt: a day in total, then it is given up.
WAITS: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
#: A receiver may ask for a longer wait, up to this.
_LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
#: A sender that died is followed by another one after this; a living one is done by then.
_LEASE_SECONDS: Final = TOTAL_SECONDS + 20
#: For how long a receiver that used up all its time is not asked again.
_REST_SECONDS: Final = 30.0
#: How long a replaced secret goes on signing beside its successor.
OVERLAP: Final = timedelta(days=1)
_PREFIX: Final = "whsec_"
_SECRET_BYTES: Final = 32


# Secrets


@dataclass(frozen=True, kw_only=True)
class SigningSecret:
    """What an organisation's notifications are signed with."""

    current: str = field(repr=False)
    #: What a rotation replaced.
    previous: str | None = field(repr=False)
    #: Until when that signs too.
    previous_until: datetime | None

    def valid(self, now: datetime) -> tuple[str, ...]:
        """Returns every secret that signs now, the newest first."""
        if self.previous is None or self.previous_until is None or self.previous_until <= now:
            return (self.current,)
        return self.current, self.previous


class SigningSecrets:
    """The secrets of all organisations, each made when it is first needed."""

    def __init__(self, notifications: Notifications, vault: Vault) -> None:
        self._notifications = notifications
        self._vault = vault

    def get(self, organization_id: UUID, sealed: bytes | None = None) -> SigningSecret:
        """Returns an organisation's secret; all who ask first at once get the same one.

        ``sealed`` is what the caller read of it already.
        """
        sealed = sealed or self._notifications.signing_sealed(organization_id)
        if sealed is None:
            sealed = self._notifications.change_signing(
                organization_id,
                lambda found: self._seal(_new_secret()) if found is None else None,
            )
        return self._open(sealed)

    def rotate(self, organization_id: UUID) -> SigningSecret:
        """Replaces the secret; the old one goes on signing beside the new one for a day.

        Safe to repeat: no. A second rotation within the day ends what the first one replaced.
        """

        def rotated(found: bytes | None) -> bytes:
            if found is None:
                return self._seal(_new_secret())
            return self._seal(
                _new_secret(),
                previous=self._open(found).current,
                previous_until=(datetime.now(UTC) + OVERLAP).isoformat(),
            )

        return self._open(self._notifications.change_signing(organization_id, rotated))

    def _seal(self, current: str, **previous: str) -> bytes:
        return self._vault.seal({"current": current, **previous})

    def _open(self, sealed: bytes | None) -> SigningSecret:
        assert sealed is not None, "the organisation exists"
        data = self._vault.open(sealed)
        until = data.get("previous_until")
        return SigningSecret(
            current=data["current"],
            previous=data.get("previous"),
            previous_until=None if until is None else datetime.fromisoformat(until),
        )


def _new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Returns one signature of a message; the header lists one for each secret. Pure."""
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


# When to try again


def next_wait(attempt: int, retry_after_seconds: float | None, *, spread: float) -> float | None:
    """Returns the seconds after a failed attempt; None after the last one. Pure.

    ``spread`` from 0 to 1 keeps apart what failed together. What the receiver asked for is the
    least.
    """
    if attempt > len(WAITS):
        return None
    asked = min(retry_after_seconds or 0.0, _LONGEST_RETRY_AFTER_SECONDS)
    return max(WAITS[attempt - 1] * (0.9 + 0.2 * spread), asked)


# Delivery


class Courier:
    """Delivers what is due; several may work at once, in one process or many."""

    def __init__(
        self,
        settings: Settings,
        notifications: Notifications,
        vault: Vault,
        *,
        timeout_seconds: float = TOTAL_SECONDS,
    ) -> None:
        """``timeout_seconds`` is all that a receiver gets; at most ten, which the lease allows."""
        self._settings = settings
        self._timeout_seconds = timeout_seconds
        self._notifications = notifications
        self._vault = vault
        self._secrets = SigningSecrets(notifications, vault)
        self._user_agent = f"Trunkline/{importlib.metadata.version('trunkline')}"
        #: Receivers that were too slow, and until when they are left alone.
        self._resting: dict[tuple[UUID, str], float] = {}
        self._lock = threading.Lock()

    def deliver_due(self, seconds: float) -> int:
        """Delivers one notification after the other until none is due or the time is up.

        The last one may take ten seconds more. Returns how many were tried.

        Safe to repeat: yes, also at the same time; a notification whose sender dies is sent again,
        with the same id.
        """
        end = time.monotonic() + seconds
        tried = 0
        while time.monotonic() < end:
            due = self._notifications.take_due(_LEASE_SECONDS)
            if due is None:
                break
            self._deliver(due)
            tried += 1
        return tried

    def _deliver(self, due: DueNotification) -> None:
        # Only senders that die get here: each attempt is counted before it is made.
        if due.attempt > len(WAITS) + 1:
            self._failed(due, "Every attempt was cut short on our side.", reason="attempts")
            return
        try:
            url = self._vault.open(due.job_sealed).get("callback_url")
            body = self._body(due)
            signing = self._secrets.get(due.organization_id, due.organization_sealed)
        except VaultKeyMissingError:
            _log.error("vault key missing", notification=format_id("msg", due.id))
            self._failed(due, "It could not be opened on our side.", reason="vault", again=True)
            return
        if not isinstance(url, str):
            self._failed(due, "Its import names no callback_url.", reason="no url")
            return
        receiver = (due.organization_id, urlsplit(url).netloc)
        if self._rests(receiver):
            sentence = "It was not tried: the receiver had not answered in time a moment before."
            self._failed(due, sentence, reason="resting", again=True)
            return
        try:
            reply = self._post(url, due.id, body, signing)
        except TooSlow as error:
            self._let_rest(receiver)
            self._failed(due, str(error), reason="TooSlow", again=True)
        except NotReached as error:
            self._failed(due, str(error), reason="NotReached", again=True)
        except InvalidRequest as error:
            # What the name leads to may change back.
            self._failed(due, error.message, reason="refused by us", again=True)
        else:
            self._judge(due, reply)

    def _post(self, url: str, notification_id: UUID, body: bytes, signing: SigningSecret) -> Reply:
        now = datetime.now(UTC)
        message_id, timestamp = format_id("msg", notification_id), int(now.timestamp())
        signatures = [sign(one, message_id, timestamp, body) for one in signing.valid(now)]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": self._user_agent,
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }
        return post(
            url,
            body,
            headers,
            allow_loopback=self._settings.notify_loopback,
            timeout_seconds=self._timeout_seconds,
        )

    def _body(self, due: DueNotification) -> bytes:
        """The same bytes on every attempt: made of nothing but what is stored."""
        event: dict[str, Any] = {}
        if due.event_sealed is not None:
            event = self._vault.open(due.event_sealed)
        created = due.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z")
        message = {"type": due.type, "timestamp": created, "data": {**due.payload, **event}}
        return json.dumps(message, separators=(",", ":")).encode()

    def _judge(self, due: DueNotification, reply: Reply) -> None:
        sentence, reason = f"The receiver answered {reply.status}.", f"status {reply.status}"
        if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
            self._notifications.delivered(due.id)
            metrics.NOTIFICATIONS.labels("delivered").inc()
            _log.info(
                "notification delivered",
                notification=format_id("msg", due.id),
                attempt=due.attempt,
            )
        elif reply.status == HTTPStatus.GONE:
            self._failed(due, sentence, reason=reason)
        else:
            wait = parse_retry_after(reply.retry_after, now=datetime.now(UTC))
            self._failed(due, sentence, reason=reason, again=True, retry_after_seconds=wait)

    def _failed(
        self,
        due: DueNotification,
        sentence: str,
        *,
        reason: str,
        again: bool = False,
        retry_after_seconds: float | None = None,
    ) -> None:
        wait = None
        if again:
            wait = next_wait(due.attempt, retry_after_seconds, spread=random.random())  # noqa: S311 -- jitter
        retry_in = None if wait is None else timedelta(seconds=wait * self._settings.retry_scale)
        self._notifications.failed(due.id, sentence, retry_in, attempt=due.attempt)
        metrics.NOTIFICATIONS.labels("given_up" if retry_in is None else "retried").inc()
        _log.warning(
            "notification failed",
            notification=format_id("msg", due.id),
            attempt=due.attempt,
            reason=reason,
            given_up=retry_in is None,
        )

    # One slow receiver must not use up the time of all others. Each customer's are told apart, so
    # that none can silence a host that others use too.

    def _rests(self, receiver: tuple[UUID, str]) -> bool:
        with self._lock:
            return self._resting.get(receiver, 0.0) > time.monotonic()

    def _let_rest(self, receiver: tuple[UUID, str]) -> None:
        now = time.monotonic()
        with self._lock:
            self._resting = {one: until for one, until in self._resting.items() if until > now}
            self._resting[receiver] = now + _REST_SECONDS * self._settings.retry_scale
