from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any, cast
from uuid import UUID

import pytest
from fastapi import Request
from sqlalchemy.exc import OperationalError

from api_stub.waiting import Watch, entity_tag, is_final, matches, preferred_wait
from worker.domain.job import FINAL, JobState
from worker.service import Service

JOB = UUID(int=1)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], None),
        ([""], None),
        (["wait=20"], 20),
        (["wait=0"], 0),
        (["wait=60"], 60),
        (["wait=61"], 60),
        (["wait=999999999"], 60),
        (["wait=" + "9" * 5000], None),
        (["WAIT=20"], 20),
        (["Wait = 20"], 20),
        (['wait="20"'], 20),
        (["wait=20; because=slow"], 20),
        (["respond-async, wait=20"], 20),
        (["wait=20, respond-async"], 20),
        (["respond-async", "wait=20"], 20),
        (["wait=5, wait=20"], 5),
        (["wait=5", "wait=20"], 5),
        (['note="a, wait=9, b", wait=20'], 20),
        (['note="a \\" wait=9", wait=20'], 20),
        (["waiting=20"], None),
        (["await=20"], None),
        (["wait"], None),
        (["wait="], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait=soon, wait=20"], None),
        (["wait=\N{ARABIC-INDIC DIGIT FIVE}"], None),
        (["handling=strict"], None),
        ([",,,;;;==="], None),
        (['"\\' * 8000 + ", wait=20"], None),
    ],
)
def test_prefer_wait_is_read_as_rfc_7240_has_it(values: list[str], seconds: int | None) -> None:
    assert preferred_wait(values) == seconds


@pytest.mark.parametrize(
    ("if_none_match", "same"),
    [
        ([], False),
        ([""], False),
        (['W/"7"'], True),
        (['"7"'], True),
        (["*"], True),
        ([" * "], True),
        (['W/"6"'], False),
        (['W/"70"'], False),
        (["7"], False),
        (["W/7"], False),
        (['W/"6", W/"7"'], True),
        (['W/"6"', 'W/"7"'], True),
        (['W/"6",W/"7",W/"8"'], True),
        (['W/"', "7"], False),
        (['"*"'], False),
    ],
)
def test_if_none_match_compares_weakly(if_none_match: list[str], *, same: bool) -> None:
    assert matches(if_none_match, entity_tag(7)) is same


@pytest.mark.parametrize("state", JobState)
def test_a_final_state_ends_a_wait(state: JobState) -> None:
    assert is_final(1, state) is (state in FINAL)


class Versions:
    """A service whose answers on an import's version are given."""

    def __init__(self, *answers: tuple[int, JobState] | Exception | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    def import_versions(self, job_ids: Collection[UUID]) -> dict[UUID, tuple[int, JobState]]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {} if answer is None else dict.fromkeys(job_ids, answer)


class Client:
    def __init__(self, *, leaves_after: int | None = None) -> None:
        self.leaves_after = leaves_after
        self.asked = 0

    async def is_disconnected(self) -> bool:
        self.asked += 1
        return self.leaves_after is not None and self.asked > self.leaves_after


def wait(
    versions: Versions,
    *,
    seconds: float,
    client: Client | None = None,
    reached: Callable[[int, JobState], bool] = is_final,
) -> None:
    async def run() -> None:
        watch = Watch(cast("Service", versions))
        request: Any = client or Client()
        await watch.until(reached, JOB, seconds=seconds, request=cast("Request", request))

    asyncio.run(run())


def test_a_wait_ends_with_the_import() -> None:
    versions = Versions((1, JobState.QUEUED), (2, JobState.RUNNING), (3, JobState.ACTIVE))

    wait(versions, seconds=30)

    assert versions.asked == 3


def test_a_wait_ends_with_a_change() -> None:
    versions = Versions((1, JobState.RUNNING), (1, JobState.RUNNING), (2, JobState.RUNNING))

    wait(versions, seconds=30, reached=lambda version, _: version != 1)

    assert versions.asked == 3


def test_a_wait_ends_with_its_time_and_asks_ever_less_often() -> None:
    versions = Versions((1, JobState.QUEUED))

    wait(versions, seconds=1)

    assert 4 <= versions.asked <= 10


def test_a_wait_for_no_time_ends_at_once() -> None:
    versions = Versions((1, JobState.QUEUED))

    wait(versions, seconds=0)

    assert versions.asked <= 1


def test_a_wait_ends_when_the_client_goes_away() -> None:
    versions = Versions((1, JobState.QUEUED))
    started = time.monotonic()

    wait(versions, seconds=30, client=Client(leaves_after=1))

    assert time.monotonic() - started < 5


def test_a_thousand_wait_by_a_few_questions() -> None:
    """However many wait, one query asks for all of them; each is answered by its own import."""
    ended: list[int] = []

    class Many:
        asked = 0

        def import_versions(self, job_ids: Collection[UUID]) -> dict[UUID, tuple[int, JobState]]:
            self.asked += 1
            ends = self.asked > 4
            return {
                job_id: (1, JobState.ACTIVE if ends and job_id.int % 2 else JobState.RUNNING)
                for job_id in job_ids
            }

    versions = Many()

    async def one(watch: Watch, place: int) -> None:
        request = cast("Request", Client())
        await watch.until(is_final, UUID(int=place), seconds=30, request=request)
        ended.append(place)

    async def run() -> None:
        watch = Watch(cast("Service", versions))
        odd = [asyncio.create_task(one(watch, place)) for place in range(1, 1000, 2)]
        even = [asyncio.create_task(one(watch, place)) for place in range(0, 1000, 2)]
        await asyncio.wait(odd, timeout=20)
        assert sorted(ended) == list(range(1, 1000, 2))
        for task in even:
            task.cancel()
        await asyncio.gather(*odd, *even, return_exceptions=True)

    asyncio.run(run())

    assert versions.asked < 100


def test_a_bug_ends_the_wait_of_those_whom_it_concerns() -> None:
    with pytest.raises(ZeroDivisionError):
        wait(Versions(ZeroDivisionError()), seconds=30)


def test_a_wait_ends_when_the_import_is_gone() -> None:
    wait(Versions(None), seconds=30)


def test_a_database_that_is_away_for_a_moment_ends_no_wait() -> None:
    outage = OperationalError("SELECT 1", {}, Exception("away"))
    versions = Versions(outage, outage, (2, JobState.FAILED))

    wait(versions, seconds=30)

    assert versions.asked == 3
