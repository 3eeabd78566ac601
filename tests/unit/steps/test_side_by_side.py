from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn

import pytest

from worker.domain.errors import LeaseLost, ProviderUnavailable, SipTrunkProvisionFailed
from worker.steps._core import side_by_side

UNKNOWN = ProviderUnavailable(outcome_unknown=True)
PASSING = ProviderUnavailable()
REFUSED = SipTrunkProvisionFailed()
LOST = LeaseLost()
BUG = RuntimeError("a bug")


def _raise(error: Exception) -> Callable[[], NoReturn]:
    def call() -> NoReturn:
        raise error

    return call


@pytest.mark.parametrize(
    ("errors", "decides"),
    [
        ([REFUSED, UNKNOWN], UNKNOWN),
        ([REFUSED, PASSING], REFUSED),
        ([PASSING, UNKNOWN], UNKNOWN),
        ([UNKNOWN, LOST], LOST),
        ([PASSING, BUG], BUG),
        ([UNKNOWN, BUG], UNKNOWN),
    ],
)
def test_the_error_that_must_decide_is_raised(errors: list[Exception], decides: Exception) -> None:
    for order in (errors, errors[::-1]):
        with pytest.raises(type(decides)) as caught:
            side_by_side(*map(_raise, order))
        assert caught.value is decides


def test_an_error_waits_until_the_other_call_has_ended() -> None:
    ended = threading.Event()
    started = threading.Event()

    def slow() -> None:
        started.set()
        threading.Event().wait(0.1)
        ended.set()

    def fails() -> None:
        started.wait(5)
        raise REFUSED

    with pytest.raises(SipTrunkProvisionFailed):
        side_by_side(slow, fails)
    assert ended.is_set()


def test_results_come_in_the_order_of_the_calls() -> None:
    assert side_by_side(lambda: 1, lambda: 2) == [1, 2]
    assert side_by_side(lambda: 1) == [1]
    assert side_by_side() == []
