"""Labels are words that we know: nothing that others wrote becomes one."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from worker import metrics


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(
    ("provider", "code", "shown"),
    [
        ("twilio", None, ("twilio", "none")),
        ("telnyx", "provider_unavailable", ("telnyx", "provider_unavailable")),
        ("telnyx", "of_a_newer_release", ("telnyx", "other")),
        ("a_newer_provider", "invalid_credentials", ("other", "invalid_credentials")),
    ],
)
def test_what_this_release_does_not_know_is_folded(
    provider: str, code: str | None, shown: tuple[str, str]
) -> None:
    labels = {"kind": "import", "provider": shown[0], "state": "failed", "error_code": shown[1]}
    before = value("trunkline_jobs_ended_total", **labels)
    metrics.count_end(kind="import", provider=provider, state="failed", code=code, seconds=1.0)
    assert value("trunkline_jobs_ended_total", **labels) == before + 1


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (204, "ok"),
        (302, "refused"),
        (400, "refused"),
        (404, "not_found"),
        (429, "rate_limited"),
        (500, "failed"),
        (999, "failed"),
        (None, "unanswered"),
    ],
)
def test_an_answers_status_is_one_of_six_words(status: int | None, outcome: str) -> None:
    labels = {"vendor": "test", "method": "other", "outcome": outcome}
    before = value("trunkline_vendor_call_seconds_count", **labels)
    metrics.count_vendor_call("test", "BREW", status, 0.1)
    assert value("trunkline_vendor_call_seconds_count", **labels) == before + 1


def test_failures_that_alerts_are_about_begin_at_nought() -> None:
    for code in metrics.OURS:
        labels = {"kind": "import", "provider": "plivo", "state": "failed", "error_code": code}
        assert REGISTRY.get_sample_value("trunkline_jobs_ended_total", labels) is not None
