"""A vendor that is slow, with more imports than the worker has threads, beside another one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.rig import FAST, Rig, eventually, running

THREADS: Final = 4
TENANTS: Final = 3
IMPORTS: Final = 8
#: An import takes ten such calls, its longest step six.
CALL_SECONDS: Final = 1.0
_UNDER_WAY: Final = "SELECT count(*) FROM import_jobs WHERE provider = 'twilio' AND {}"


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    env = {**FAST, "TRUNKLINE_READ_TIMEOUT_SECONDS": "5", "TRUNKLINE_LEASE_SECONDS": "9"}
    with running(without={"flower"}, env=env, worker_concurrency=THREADS) as started:
        yield started


def _carrier(rig: Rig, last: int) -> float:
    """Imports a number of a carrier, where no vendor is asked; returns the seconds it took."""
    request: dict[str, Any] = {
        "phone_number": f"+1646555{last:04}",
        "provider": "sip",
        "sip": {"address": "sip.example.com", "username": "u", "password": "p" * 16},
    }
    started = time.monotonic()
    answer = rig.api.post("/v1/imports", json=request, headers={"Prefer": "wait=60"}, timeout=70)
    assert answer.status_code == 201, answer.text
    return time.monotonic() - started


def test_imports_elsewhere_go_on_beside_a_vendor_that_is_slow(rig: Rig) -> None:
    alone = min(_carrier(rig, last) for last in range(3))
    customers = [rig.customer() for _ in range(TENANTS * IMPORTS)]
    rig.fault(vendor="twilio", action="delay", seconds=CALL_SECONDS, times=None)
    for place in range(TENANTS):
        key = rig.stack.bootstrap(f"Tenant {place}")["api_key"]
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=rig.stack.api_url, headers=headers, trust_env=False) as client:
            for customer in customers[place::TENANTS]:
                assert client.post("/v1/imports", json=customer.request).status_code == 202
    eventually(lambda: rig.sql(_UNDER_WAY.format("lease_until > now()"))[0][0] >= THREADS)

    beside = [_carrier(rig, last) for last in range(10, 13)]
    # Still many more than there are threads: nothing of this was because they had gone.
    assert rig.sql(_UNDER_WAY.format("finished_at IS NULL"))[0][0] > 2 * THREADS
    sys.stdout.write(f"alone {alone:.2f} s, beside {beside} s\n")
    # Behind those of their own tenants alone it would be 20 s and more.
    assert max(beside) < alone + 6 * CALL_SECONDS + 9
    rig.sandbox.delete("/_sandbox/faults")
    eventually(lambda: not rig.sql(_UNDER_WAY.format("finished_at IS NULL"))[0][0], seconds=60)


def test_a_job_gives_way_between_two_steps_where_no_thread_is_free(rig: Rig) -> None:
    slow = [rig.customer() for _ in range(THREADS)]
    rig.fault(vendor="twilio", action="delay", seconds=CALL_SECONDS, times=None)
    imports = [rig.submit(customer)["id"] for customer in slow]
    eventually(lambda: rig.sql(_UNDER_WAY.format("lease_until > now()"))[0][0] == THREADS)

    _carrier(rig, 20)
    assert not any(rig.job(import_id)["finished_at"] for import_id in imports)
    for job in rig.wait(imports).values():
        assert job["status"] == "active"
        # Whoever gave way went on where it was.
        assert {step["attempts"] for step in job["steps"]} == {1}
