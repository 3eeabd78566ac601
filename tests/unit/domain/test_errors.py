from __future__ import annotations

import pickle

import pytest

from worker.domain.errors import (
    BY_CODE,
    InternalError,
    NumberNotOwned,
    PermanentError,
    ProviderRateLimited,
    TransientError,
    from_code,
)

#: What callers may rely on: the codes that the design promises.
PROMISED = [
    "invalid_request",
    "invalid_phone_number",
    "invalid_credentials",
    "insufficient_permission",
    "account_suspended",
    "number_not_owned",
    "number_not_voice_capable",
    "number_not_active",
    "number_in_use",
    "number_already_imported",
    "agent_not_found",
    "agent_not_owned",
    "user_not_found",
    "credential_not_found",
    "credential_not_owned",
    "trunk_conflict",
    "sip_trunk_provision_failed",
    "webhook_setup_failed",
    "provider_rate_limited",
    "provider_unavailable",
    "livekit_unavailable",
    "livekit_misconfigured",
    "undo_failed",
    "internal_error",
]


@pytest.mark.parametrize("code", PROMISED)
def test_every_promised_code_exists(code: str) -> None:
    error = BY_CODE[code]("")
    assert error.code == code
    assert 400 <= error.status < 600
    assert error.message


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_an_error_survives_pickling_with_all_it_knows(code: str) -> None:
    error = BY_CODE[code]("a detail")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert type(copy) is type(error)
    assert (str(copy), vars(copy)) == (str(error), vars(error))


def test_a_wait_that_the_vendor_asked_for_survives_too() -> None:
    error = ProviderRateLimited("slow", retry_after=7.5, outcome_unknown=True)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    assert (copy.retry_after, copy.outcome_unknown) == (7.5, True)


def test_a_class_is_either_transient_or_permanent() -> None:
    for error in BY_CODE.values():
        kinds = [issubclass(error, kind) for kind in (TransientError, PermanentError)]
        assert sum(kinds) == (0 if error.code == "lease_lost" else 1), error


def test_a_recorded_error_comes_back() -> None:
    assert isinstance(from_code("number_not_owned", "x"), NumberNotOwned)
    assert isinstance(from_code("from a later release", "x"), InternalError)
