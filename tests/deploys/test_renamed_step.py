"""A release that renames a step and changes the schema: both while the one before works."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from celery import Celery

from deploy.local.stack import PROJECT
from tests.deploys.next_release import NextRelease
from tests.deploys.side_by_side import (
    FAILS,
    SUCCEEDS,
    faults,
    park,
    release_all,
    rows,
    submit,
    worker_of,
    working,
)
from tests.rig import Rig

FORMER: Final = "create_dispatch_rule"
NOW: Final = "make_dispatch_rule"


@pytest.fixture(scope="module")
def renamed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    release = NextRelease(tmp_path_factory.mktemp("renamed"))
    release.rename_step(FORMER, NOW)
    release.add_migrations()
    return release.root


def _run(rig: Rig, release: Path, *arguments: str) -> None:
    """Runs a command of a release in the stack's environment."""
    subprocess.run(  # noqa: S603 -- our own
        [sys.executable, *arguments],
        env={**os.environ, **rig.stack.environment, "PYTHONPATH": str(release)},
        cwd=rig.stack.run_dir,
        check=True,
        timeout=60,
    )


def _migrate(rig: Rig, release: Path) -> None:
    _run(rig, release, "-m", "worker.cli", "admin", "migrate")


def _go_back(rig: Rig, release: Path) -> None:
    code = "from worker.db.engine import downgrade; from worker.settings import load; "
    _run(rig, release, "-c", f"{code}downgrade(load(), '-2')")


def _under_load(rig: Rig, change: Callable[[], None]) -> None:
    """Changes something while imports begin, run and end; none of them may notice."""
    ended, done = {}, threading.Event()
    old = worker_of(rig, name="old")
    with working(old):

        def submit_more() -> None:
            while not done.is_set():
                import_id, customer = submit(rig)
                ended[import_id] = (SUCCEEDS, customer)
                done.wait(0.2)

        load = threading.Thread(target=submit_more)
        load.start()
        try:
            change()
        finally:
            done.set()
            load.join()
        jobs = rig.wait(ended)
    assert len(ended) > 3
    assert not (wrong := faults(rig, ended)), wrong
    assert {step["attempts"] for job in jobs.values() for step in job["steps"]} == {1}
    log = old.log_file.read_text()
    assert "Traceback" not in log
    assert "database unavailable" not in log


@pytest.mark.timeout(180)
def test_the_schema_goes_up_while_the_release_before_works(rig: Rig, renamed: Path) -> None:
    _under_load(rig, lambda: _migrate(rig, renamed))
    assert rig.sql("SELECT version_num FROM alembic_version") == [("next_index",)]
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid::regclass::text ~ 'ticket'"
    assert rig.sql(valid) == [(True,)]


@pytest.mark.timeout(180)
def test_a_renamed_step_is_known_by_its_former_name(rig: Rig, renamed: Path) -> None:
    _migrate(rig, renamed)
    parked = park(
        rig,
        PROJECT,
        steps=("provision_trunks", FORMER, "route_number"),
        undos=("route_number", FORMER, "provision_trunks"),
    )
    ended = {key: (one.scene, one.customer) for key, one in parked.items()}
    # What a worker of the release before would have sent last.
    with Celery(broker=rig.stack.redis.url, set_as_current=False) as app:
        for import_id, one in parked.items():
            undo = ".undo" if one.scene is FAILS else ""
            app.send_task(f"imports.{FORMER}{undo}", [import_id], queue="imports")
    new = worker_of(rig, renamed, name="new")
    with working(new):
        rig.wait(ended)
        released = release_all(rig, ended)
        assert {job["status"] for job in rig.wait(released).values()} == {"released"}
    assert "unregistered" not in new.log_file.read_text()
    state = rig.outside(customer for _, customer in ended.values())
    left = {number: found.made for number, found in state.items() if any(found.made.values())}
    assert not left
    names = "SELECT count(*) FROM job_steps s JOIN import_jobs ON id = job_id WHERE s.step = '{}'"
    recent = " AND kind = 'release'"
    assert rig.sql(names.format(FORMER) + recent) == [(0,)]
    assert rig.sql(names.format(NOW) + recent) == [(len(released),)]


@pytest.mark.timeout(180)
def test_a_renamed_step_gets_its_former_name_back(rig: Rig, renamed: Path) -> None:
    _migrate(rig, renamed)
    parked = park(
        rig,
        renamed,
        steps=("provision_trunks", NOW, "route_number"),
        undos=("route_number", NOW, "provision_trunks"),
    )
    ended = {key: (one.scene, one.customer) for key, one in parked.items()}
    before = rows(rig, parked)
    _go_back(rig, renamed)
    assert {row[1] for row in rows(rig, parked).values()} >= {FORMER, "route_number"}
    assert NOW not in {row[1] for row in rows(rig, parked).values()}, before
    with working(worker_of(rig, name="old")):
        rig.wait(ended)
        assert not (wrong := faults(rig, ended)), wrong
        released = release_all(rig, ended)
        assert {job["status"] for job in rig.wait(released).values()} == {"released"}
