"""SIGTERM to one part after the other: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import httpx
import pytest
import redis

from deploy.local.service import Service
from tests.deploys.side_by_side import SUCCEEDS, faults, submit, worker_of, working
from tests.rig import Customer, Rig, eventually

#: Each outside call takes this long, so that every worker is stopped in the middle of many.
CALL_SECONDS: Final = 0.2
#: A supervisor's usual patience is 30 s (Kubernetes: terminationGracePeriodSeconds). A step ends
#: after some ten calls at most.
STOP_SECONDS: Final = 12.0
#: Imports in all; `TRUNKLINE_RESTART_JOBS=500` is what the figures in the README are of.
JOBS: Final = int(os.environ.get("TRUNKLINE_RESTART_JOBS", "36"))
_AT_WORK: Final = "SELECT count(*) FROM import_jobs WHERE lease_until > now()"


def _stop(one: Service) -> float:
    """Sends SIGTERM and returns how many seconds the worker took to end, by itself."""
    began = time.monotonic()
    one.stop(STOP_SECONDS)
    assert one.exit_code == 0, one.log_file.read_text()[-2000:]
    return time.monotonic() - began


def _calls(rig: Rig, import_id: str) -> Counter[tuple[Any, ...]]:
    return Counter(
        (entry["step"], entry["attempt"], entry["operation"], entry["write"])
        for entry in rig.journal(import_id)
    )


def _slow(rig: Rig, customer: Customer) -> None:
    rig.fault(account=customer.sid, action="delay", seconds=CALL_SECONDS, times=None)


def _repeated(rig: Rig, ended: Mapping[str, Any], undisturbed: Counter[Any]) -> list[str]:
    """Names what was called more or less often than in an import that nobody disturbed."""
    return [
        f"{import_id}: {dict(calls - undisturbed)} more, {dict(undisturbed - calls)} less"
        for import_id in ended
        if (calls := _calls(rig, import_id)) != undisturbed
    ]


@pytest.mark.timeout(180)
def test_workers_that_are_restarted_one_by_one_lose_and_repeat_nothing(rig: Rig) -> None:
    first, second = worker_of(rig, name="first"), worker_of(rig, name="second")
    with working(first, second):
        model, _ = submit(rig)
        rig.wait([model])
        ended, took = {}, []
        for one in (first, second, first):
            for _ in range(JOBS // 3):
                import_id, customer = submit(rig)
                _slow(rig, customer)
                ended[import_id] = (SUCCEEDS, customer)
            eventually(lambda: rig.sql(_AT_WORK)[0][0] > 3)
            took.append(_stop(one))
            one.start()
        jobs = rig.wait(ended, seconds=60 + JOBS)
    sys.stdout.write(
        f"{len(ended)} imports; workers took {[f'{seconds:.1f}' for seconds in took]} s to stop\n"
    )
    assert not (wrong := faults(rig, ended)), wrong
    assert not (wrong := _repeated(rig, ended, _calls(rig, model))), wrong
    assert {step["attempts"] for job in jobs.values() for step in job["steps"]} == {1}


@pytest.mark.timeout(120)
def test_a_retry_that_waits_is_in_no_workers_memory_and_goes_on_in_the_next(rig: Rig) -> None:
    one = worker_of(rig, name="first")
    one.start()
    ended = {}
    for _ in range(5):
        import_id, customer = submit(rig)
        # Longer than it takes a fresh worker on a busy machine to have all of them refused.
        refusal = {"action": "status", "status": 429, "retry_after": 12}
        rig.fault(import_id=import_id, step="configure_webhooks", write=True, **refusal)
        ended[import_id] = (SUCCEEDS, customer)
    try:
        eventually(lambda: all(rig.job(key)["next_attempt_at"] for key in ended))
        _stop(one)
        with redis.Redis.from_url(rig.stack.redis.url) as broker:
            assert broker.hlen("unacked") == 0
        one.start()
        # Far less than the broker's visibility timeout, which is a minute.
        rig.wait(ended, seconds=40)
        assert not (wrong := faults(rig, ended)), wrong
    finally:
        one.stop()


@pytest.mark.timeout(120)
def test_a_second_sigterm_changes_nothing_and_sigquit_loses_nothing(rig: Rig) -> None:
    one = worker_of(rig, name="first")
    with working(one):
        ended = {}
        for number, sent in ((signal.SIGTERM, 2), (signal.SIGQUIT, 1)):
            for _ in range(5):
                import_id, customer = submit(rig)
                _slow(rig, customer)
                ended[import_id] = (SUCCEEDS, customer)
            eventually(lambda: any(rig.job(key)["status"] == "running" for key in ended))
            assert one.pid is not None
            for _ in range(sent):
                os.kill(one.pid, number)
                time.sleep(0.2)
            began = time.monotonic()
            eventually(lambda: not one.alive, seconds=STOP_SECONDS)
            assert time.monotonic() - began < STOP_SECONDS
            one.start()
        rig.wait(ended)
    assert not (wrong := faults(rig, ended)), wrong


@pytest.mark.timeout(120)
def test_an_api_that_stops_answers_everybody_who_waits(rig: Rig) -> None:
    import_id, customer = submit(rig)  # no worker runs: it stays queued
    answers: list[httpx.Response] = []
    url = f"/v1/imports/{import_id}"
    waiting = [
        threading.Thread(target=lambda: answers.append(rig.api.get(url, params={"wait": 20})))
        for _ in range(10)
    ]
    for one in waiting:
        one.start()
    time.sleep(1)
    began = time.monotonic()
    rig.stack.api.stop(10)
    took = time.monotonic() - began
    for one in waiting:
        one.join()
    rig.stack.api.start()
    assert [answer.status_code for answer in answers] == [200] * 10
    assert {answer.json()["status"] for answer in answers} == {"queued"}
    # Uvicorn's own patience is three seconds; nobody used it up.
    assert took < 3
    with working(worker_of(rig, name="first")):
        rig.wait([import_id])
    assert not faults(rig, {import_id: (SUCCEEDS, customer)})
