from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.notifications import WAITS, SigningSecret, next_wait, sign
from worker.outward import parse_retry_after

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def test_a_signature_is_the_published_one() -> None:
    """The vector of the reference libraries, such as
    https://github.com/standard-webhooks/standard-webhooks/tree/main/libraries
    """
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("attempt", "asked", "spread", "expected"),
    [
        (1, None, 0.5, 5),
        (1, None, 0.0, 4.5),
        (1, None, 1.0, 5.5),
        (2, None, 0.5, 30),
        (3, None, 0.5, 120),
        (10, None, 0.5, 28800),
        (11, None, 0.5, None),
        (1, 60.0, 0.5, 60),
        (1, 1.0, 0.5, 5),
        (1, 90000.0, 0.5, 3600),
        (10, 90000.0, 0.5, 28800),
        (11, 60.0, 0.5, None),
    ],
)
def test_the_next_attempt_comes_when_it_should(
    attempt: int, asked: float | None, spread: float, expected: float | None
) -> None:
    found = next_wait(attempt, asked, spread=spread)
    assert found == (None if expected is None else pytest.approx(expected))


def test_it_is_given_up_after_about_a_day() -> None:
    assert timedelta(hours=23) < timedelta(seconds=sum(WAITS)) < timedelta(hours=25)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("120", 120),
        ("0", 0),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60),
        ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("Sat, 21 Nov 99999999999999999999 12:01:00 GMT", None),
        ("-5", None),
        ("9" * 400, float("inf")),
        ("", None),
    ],
)
def test_retry_after_is_read(header: str | None, expected: float | None) -> None:
    assert parse_retry_after(header, now=NOW) == expected


def test_a_replaced_secret_signs_until_its_time_is_up() -> None:
    secret = SigningSecret(current="new", previous="old", previous_until=NOW)
    assert secret.valid(NOW - timedelta(seconds=1)) == ("new", "old")
    assert secret.valid(NOW) == ("new",)


def test_secrets_do_not_show_in_a_repr() -> None:
    secret = SigningSecret(current="planted", previous="planted", previous_until=NOW)
    assert "planted" not in repr(secret)
