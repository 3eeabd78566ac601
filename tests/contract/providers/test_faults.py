from __future__ import annotations

import pickle
import socket
import time
from collections.abc import Callable, Mapping

import pytest

from tests.contract.providers.rows import READ_ATTEMPTS, READ_TIMEOUT_SECONDS, ROWS, Row
from tests.contract.providers.world import IMPORT, PLAN, TAG, URLS, World
from worker.domain.errors import (
    LeaseLost,
    NumberNotOwned,
    PermanentError,
    ProviderRateLimited,
    ProviderUnavailable,
    TransientError,
    TrunklineError,
)
from worker.domain.job import Lease, StepName
from worker.domain.values import E164, Fields, RoutingMode
from worker.providers import Provider

Call = Callable[[World, Provider], object]


def voice(provider: Provider) -> Fields:
    """Makes what voice is pointed at, and returns how."""
    objects = provider.prepare_application(
        TAG, RoutingMode.WEBHOOK, URLS, sms=True, record=lambda _: None
    )
    return provider.plan_voice(RoutingMode.WEBHOOK, URLS, objects)


def write_voice(world: World, provider: Provider) -> None:
    provider.write_routing(world.case.number_id, voice(provider))


READS: Mapping[str, Call] = {
    "verify_credentials": lambda _, provider: provider.verify_credentials(RoutingMode.WEBHOOK),
    "find_number": lambda world, provider: provider.find_number(E164(world.case.number), None),
    "read_routing": lambda world, provider: provider.read_routing(world.case.number_id),
}
WRITES: Mapping[str, Call] = {
    "write_routing": write_voice,
    "prepare_trunk": lambda _, provider: provider.prepare_trunk(TAG, PLAN, record=lambda _: None),
    "remove_trunk": lambda _, provider: provider.remove_trunk(TAG, {}),
}
EVERY_ROW = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
EVERY_READ = pytest.mark.parametrize("call", READS.values(), ids=READS)
EVERY_WRITE = pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)


def has_nothing_to_do(world: World, call: Call) -> bool:
    """Whether the provider has no trunks, which its harness gives the reason for."""
    return call is not write_voice and world.case.no_trunk_because is not None


def failure(world: World, provider: Provider, call: Call, row: Row) -> TrunklineError:
    with pytest.raises(row.expected) as caught:
        call(world, provider)
    error = caught.value
    assert "planted" not in f"{error} {error!r}"
    cause: BaseException | None = error
    while cause is not None:
        assert isinstance(cause, TrunklineError), "the vendor's holds the request and its login"
        cause = cause.__cause__ or cause.__context__
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    assert (type(again), again.__dict__) == (type(error), error.__dict__)
    if isinstance(error, TransientError):
        low, high = row.wait or (None, None)
        if isinstance(error, ProviderRateLimited) and low is None:
            low = high = world.case.rate_limit_wait
        if low is None or high is None:
            assert error.retry_after is None
        else:
            assert error.retry_after is not None
            assert low <= error.retry_after <= high
    return error


@EVERY_ROW
@EVERY_READ
def test_a_read_that_fails(world: World, call: Call, row: Row) -> None:
    provider = world.provider(read_timeout_seconds=READ_TIMEOUT_SECONDS)
    world.fault(row.action, times=None, **row.rest)

    error = failure(world, provider, call, row)

    assert not getattr(error, "outcome_unknown", False)
    assert len(world.journal()) == (READ_ATTEMPTS if row.short else 1)


@EVERY_ROW
@EVERY_WRITE
def test_a_write_that_fails(world: World, call: Call, row: Row) -> None:
    if has_nothing_to_do(world, call):
        return
    provider = world.provider(read_timeout_seconds=READ_TIMEOUT_SECONDS)
    if call is WRITES["remove_trunk"]:
        WRITES["prepare_trunk"](world, provider)
    before = len(world.journal(write=True))
    world.fault(row.action, match={"write": True}, times=None, **row.rest)

    error = failure(world, provider, call, row)

    assert getattr(error, "outcome_unknown", False) is row.unknown
    if isinstance(error, TransientError) or call is write_voice:
        assert len(world.journal(write=True)) == before + 1, "a write is sent once"


@pytest.mark.parametrize("row", [row for row in ROWS if row.short], ids=lambda row: row.id)
@EVERY_READ
def test_a_short_fault_of_a_read_heals_itself(world: World, call: Call, row: Row) -> None:
    provider = world.provider(read_timeout_seconds=READ_TIMEOUT_SECONDS)
    expected = call(world, provider)
    world.fault(row.action, **row.rest)

    assert call(world, provider) == expected


def test_a_number_that_is_not_there(world: World, provider: Provider) -> None:
    fields = voice(provider)
    world.fault("status", times=None, status=404)

    assert provider.read_routing(world.case.number_id) is None
    with pytest.raises(NumberNotOwned):
        provider.write_routing(world.case.number_id, fields)


@pytest.mark.parametrize("call", [READS["read_routing"], write_voice], ids=["read", "write"])
def test_a_404_that_is_not_the_vendors_says_nothing(
    world: World, provider: Provider, call: Call
) -> None:
    world.fault("status", times=None, status=404, body="<html>no such site</html>")

    with pytest.raises(ProviderUnavailable):
        call(world, provider)


@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
def test_a_refused_connection_leaves_no_doubt(world: World, call: Call) -> None:
    if has_nothing_to_do(world, call):
        return
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        provider = world.provider(url=f"http://127.0.0.1:{closed.getsockname()[1]}")

        with pytest.raises(ProviderUnavailable) as caught:
            call(world, provider)

    assert not caught.value.outcome_unknown


def test_a_call_ends_within_its_limits(world: World) -> None:
    provider = world.provider(read_timeout_seconds=READ_TIMEOUT_SECONDS)
    world.fault("delay", match={"write": True}, seconds=30)
    began = time.monotonic()

    with pytest.raises(ProviderUnavailable):
        write_voice(world, provider)

    assert time.monotonic() - began < 5


@pytest.mark.parametrize("call", [*READS.values(), *WRITES.values()], ids=[*READS, *WRITES])
def test_without_a_lease_nothing_is_sent(world: World, call: Call) -> None:
    if has_nothing_to_do(world, call):
        return
    settings = world.settings()
    lease = Lease(seconds=settings.call_seconds - 0.01)
    provider = world.provider(lease=lease)

    with pytest.raises(LeaseLost):
        call(world, provider)

    assert not world.journal()


def test_a_lease_that_ends_half_way_stops_the_next_request(world: World) -> None:
    if world.case.no_trunk_because is not None:
        return
    lease = Lease(seconds=60)
    provider = world.provider(lease=lease)

    with pytest.raises(LeaseLost):
        provider.prepare_trunk(TAG, PLAN, record=lambda _: lease.revoke())

    assert len(world.journal(write=True)) == 1


@pytest.mark.parametrize(
    ("step", "number"), [(StepName.ROUTE_NUMBER, 1), (StepName.PROVISION_TRUNKS, 12)]
)
def test_every_request_says_who_makes_it(world: World, step: StepName, number: int) -> None:
    provider = world.provider(step=step, number=number)

    for call in READS.values():
        call(world, provider)
    for call in WRITES.values():
        if not has_nothing_to_do(world, call):
            call(world, provider)

    made_by = {(entry["import_id"], entry["step"], entry["attempt"]) for entry in world.journal()}
    assert made_by == {(IMPORT, step.value, number)}


def test_an_error_that_is_permanent_is_not_repeated(world: World, provider: Provider) -> None:
    world.fault("status", times=None, status=400)

    with pytest.raises(PermanentError):
        provider.find_number(E164(world.case.number), None)

    assert len(world.journal()) == 1
