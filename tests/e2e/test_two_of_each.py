"""Two workers and two beats on one database and one broker, with nothing else between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from deploy.local.services import Surroundings, beat
from tests.faults.scenes import Scene, verdict
from tests.rig import Rig, eventually, running

IMPORTS: Final = 30


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(without={"flower"}, workers=2, worker_concurrency=8) as rig:
        yield rig


def test_they_share_the_jobs_and_do_none_twice(rig: Rig) -> None:
    around = Surroundings(
        environment=rig.stack.environment,
        run_dir=rig.stack.state_dir / "second",
        logs_dir=rig.stack.logs_dir / "second",
        broker_url=rig.stack.redis.url,
    )
    for directory in (around.run_dir, around.logs_dir):
        directory.mkdir()
    second = beat(around)
    second.start()
    try:
        customers = [rig.customer() for _ in range(IMPORTS)]
        # Slow enough that one worker's threads are all taken.
        rig.fault(vendor="twilio", action="delay", seconds=0.1, times=None)
        imports = {rig.submit(customer)["id"]: customer for customer in customers}
        jobs = rig.wait(imports)
        assert not (wrong := verdict(rig, Scene(mode="webhook", fails=False), imports)), wrong
        assert {step["attempts"] for job in jobs.values() for step in job["steps"]} == {1}
        logs = [worker.log_file.read_text() for worker in rig.stack.workers]
        assert all('"step done"' in log for log in logs), "one of them did nothing"
        # Both beats send sweeps; each goes its rounds.
        eventually(lambda: second.alive and rig.stack.beat.alive)
    finally:
        second.kill()
