from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from worker.providers._http import asked_wait

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        ("1.5", 1.5),
        ("301", 300.0),
        ("9" * 400, 300.0),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        ("soon", None),
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20.0),
        (format_datetime(NOW - timedelta(seconds=20), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=400), usegmt=True), 300.0),
        ("Sun, 01 Mar 2026 12:00:05 -0000", 5.0),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert asked_wait(header, now=NOW) == seconds
