from __future__ import annotations

import logging
import traceback

import pytest
import structlog

from tests.contract.providers.rows import ROWS
from tests.contract.providers.test_faults import READS, WRITES, has_nothing_to_do
from tests.contract.providers.world import LOGIN, World
from worker.domain.errors import TrunklineError

QUICK_ROWS = [row for row in ROWS if row.action != "delay"]


def test_no_secret_is_logged_or_raised(
    world: World, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    raised: list[str] = []
    world.edit(world.case.routings[-1].settings)
    provider = world.provider()

    with structlog.testing.capture_logs() as events:
        for row in QUICK_ROWS:
            world.clear_faults()
            world.fault(row.action, times=None, **row.rest)
            for call in (*READS.values(), *WRITES.values()):
                if has_nothing_to_do(world, call):
                    continue
                try:
                    call(world, provider)
                except TrunklineError as error:
                    raised += [repr(error), *traceback.format_exception(error)]

    assert events, "failures are logged"
    assert raised
    places = [*map(str, events), *caplog.messages, *capfd.readouterr(), *raised]
    for secret in (*world.case.secrets, LOGIN.password):
        assert not [place for place in places if secret in place]


def test_no_phone_number_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    # At DEBUG the HTTP library prints its URLs; worker.logs keeps it quiet.
    caplog.set_level(logging.INFO)
    provider = world.provider()

    with structlog.testing.capture_logs() as events:
        for row in QUICK_ROWS:
            world.clear_faults()
            world.fault(row.action, times=None, **row.rest)
            with pytest.raises(TrunklineError):
                READS["find_number"](world, provider)

    assert events
    assert world.case.number.removeprefix("+") not in f"{events} {caplog.messages}"


def test_events_are_static_and_say_whose_they_are(world: World) -> None:
    world.fault("status", times=None, status=500)

    with structlog.testing.capture_logs() as events, pytest.raises(TrunklineError):
        READS["read_routing"](world, world.provider())

    assert {event["event"] for event in events} == {f"{world.case.name} call failed"}
    assert all(event["attempt"] == "imp_1/route_number/1" for event in events)
    assert all(event["status"] == 500 for event in events)
