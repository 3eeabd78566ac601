"""Workers of two releases on one database and one broker, and jobs parked anywhere between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deploy.local.service import Service
from deploy.local.services import Surroundings, worker
from deploy.local.stack import PROJECT
from tests.faults.scenes import Scene, verdict
from tests.rig import Customer, Rig, eventually

SUCCEEDS: Final = Scene(mode="webhook", fails=False)
FAILS: Final = Scene(mode="webhook", fails=True)
#: The vendor refuses to move voice: by then everything else has been made, so undo has most to do.
_REFUSED: Final = {"vendor": "twilio", "step": "route_number", "write": True, "action": "status"}
#: What keeps parked jobs with the worker that parked them.
_PATIENT: Final = {
    "TRUNKLINE_LEASE_SECONDS": "300",
    "TRUNKLINE_READ_TIMEOUT_SECONDS": "120",
    "TRUNKLINE_DATABASE_MAX_OVERFLOW": "60",
}


#: A busy machine takes its time; a worker that is killed instead of ended shows in its exit code.
_STOP_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class Parked:
    """An import that waits in the middle of one call."""

    customer: Customer
    scene: Scene
    #: The step, or the step's undo, whose first call waits.
    at: str


def worker_of(rig: Rig, release: Path = PROJECT, *, name: str, patient: bool = False) -> Service:
    """A worker of a release, this one or another."""
    around = Surroundings(
        environment={
            **rig.stack.environment,
            "PYTHONPATH": str(release),
            **(_PATIENT if patient else {}),
        },
        run_dir=rig.stack.run_dir,
        logs_dir=rig.stack.logs_dir,
        broker_url=rig.stack.redis.url,
    )
    return worker(around, name, 64)


@contextmanager
def working(*workers: Service) -> Iterator[None]:
    """Starts workers and stops them."""
    for one in workers:
        one.launch()
    try:
        for one in workers:
            one.wait_ready()
        yield
    finally:
        # One after the other: whoever is asked a second time ends at once, and its code says so.
        for one in workers:
            one.stop(_STOP_SECONDS)


def submit(rig: Rig, scene: Scene = SUCCEEDS) -> tuple[str, Customer]:
    """Submits an import that ends as the scene has it."""
    customer = rig.customer(mode=scene.mode)
    if scene.fails:
        rig.fault(account=customer.sid, **_REFUSED, status=400, code=21402, times=None)
    return rig.submit(customer)["id"], customer


def park(
    rig: Rig, release: Path, *, steps: Iterable[str], undos: Iterable[str]
) -> dict[str, Parked]:
    """Lets a worker of a release bring one import to each of its steps, and kills it there.

    ``undos`` are steps in whose undo an import is to wait.
    """
    points = [*((SUCCEEDS, step) for step in steps), *((FAILS, f"{step}.undo") for step in undos)]
    parked = {}
    for scene, at in points:
        import_id, customer = submit(rig, scene)
        rig.fault(import_id=import_id, step=at, nth=1, action="hold", when="after")
        parked[import_id] = Parked(customer=customer, scene=scene, at=at)
    patient = worker_of(rig, release, name="patient", patient=True)
    patient.start()
    try:
        eventually(lambda: {hold["import_id"] for hold in rig.holds()} == parked.keys(), seconds=60)
    finally:
        patient.kill()
    rig.control("holds/release", {})
    rig.expire_leases()
    return parked


def faults(rig: Rig, ended: Mapping[str, tuple[Scene, Customer]]) -> list[str]:
    """Returns what is wrong with imports that have ended."""
    return [
        fault
        for scene in (SUCCEEDS, FAILS)
        for fault in verdict(
            rig, scene, {key: customer for key, (of, customer) in ended.items() if of is scene}
        )
    ]


def release_all(rig: Rig, import_ids: Iterable[str]) -> list[str]:
    """Asks for the release of every import that is active; returns its jobs' ids."""
    jobs = []
    for import_id in import_ids:
        job = rig.job(import_id)
        if job["status"] == "active":
            answer = rig.api.delete(f"/v1/phone-numbers/{job['phone_number_id']}")
            assert answer.status_code == 202, answer.text
            jobs.append(answer.json()["id"])
    return jobs


def rows(rig: Rig, job_ids: Iterable[str]) -> dict[str, tuple[Any, ...]]:
    """Returns all that tells whether anybody touched a job."""
    found = rig.sql("SELECT id, state, step, fence, version, sent_at, due_at FROM import_jobs")
    return {f"imp_{row[0].hex}": row[1:] for row in found if f"imp_{row[0].hex}" in {*job_ids}}
