"""What the broker, Flower and an older release's queue rely on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from tests.conftest import make_settings
from worker import pulse, tasks
from worker.celery_app import (
    BATCH_QUEUE,
    CONTROL_QUEUE,
    QUEUE,
    RELAY_QUEUE,
    RESCUE_QUEUE,
    SHARED_QUEUES,
    Turns,
    app,
    configuration,
    queue_name,
    shown_error,
)
from worker.domain.errors import NumberNotOwned
from worker.domain.job import JOB_QUEUES, StepName
from worker.settings import load
from worker.steps._guard import LONGEST_COUNTDOWN


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Celery looks into its configuration as soon as a task is looked at."""
    settings = make_settings("postgresql://127.0.0.1:1/d")
    for name, value in {
        "TRUNKLINE_ENV": "development",
        "TRUNKLINE_DATABASE_URL": settings.database_url.get_secret_value(),
        "TRUNKLINE_BROKER_URL": settings.broker_url.get_secret_value(),
        "TRUNKLINE_VAULT_KEYS": settings.vault_keys[0].get_secret_value(),
        "TRUNKLINE_PUBLIC_BASE_URL": settings.public_base_url,
        "LIVEKIT_URL": settings.livekit_url,
        "LIVEKIT_API_KEY": settings.livekit_api_key,
        "LIVEKIT_API_SECRET": settings.livekit_api_secret.get_secret_value(),
        "LIVEKIT_SIP_URI": settings.livekit_sip_uri,
    }.items():
        monkeypatch.setenv(name, value)
    load.cache_clear()
    yield
    load.cache_clear()


@pytest.mark.parametrize("step", StepName)
def test_a_step_has_a_task_and_an_undo_of_its_name(step: StepName) -> None:
    run, undo = tasks.TASKS[step]
    assert (run.name, undo.name) == (f"imports.{step}", f"imports.{step}.undo")
    for task in (run, undo):
        # With a number here Celery would fail the task after as many retries.
        assert task.max_retries is None
        assert list(inspect.signature(task.run).parameters) == ["import_id"], "only the id travels"


def test_every_task_has_a_name_that_says_what_it_is() -> None:
    own = {name for name in app.tasks if not name.startswith("celery.")}
    steps = {f"imports.{step}{undo}" for step in StepName for undo in ("", ".undo")}
    others = {
        "imports.start",
        "imports.sweep",
        "workers.pulse",
        "numbers.check",
        "notifications.deliver",
    }
    assert own == steps | others
    assert pulse.pulse.name in own


def test_a_worker_takes_from_all_queues_in_turns() -> None:
    found = configuration(make_settings("postgresql://h/d"))

    jobs = {
        f"{kind}.{provider}"
        for kind in ("imports", "batches")
        for provider in ("twilio", "telnyx", "plivo", "sip")
    }
    assert {queue_name(queue) for queue in JOB_QUEUES} == jobs
    # BATCH_QUEUE: what the release before sends.
    others = {QUEUE, BATCH_QUEUE, RESCUE_QUEUE, RELAY_QUEUE, CONTROL_QUEUE}
    assert found["task_queues"].keys() == jobs | others
    options = found["broker_transport_options"]
    assert options["queue_order_strategy"] == f"{Turns.__module__}:{Turns.__qualname__}"


def test_rabbitmq_keeps_every_queue_of_jobs_as_a_quorum_and_confirms_what_it_has() -> None:
    rabbit = make_settings("postgresql://h/d", broker_url=SecretStr("amqps://u:p@h/v"))
    found = configuration(rabbit)
    assert {
        name: options["queue_arguments"]["x-queue-type"]
        for name, options in found["task_queues"].items()
    } == dict.fromkeys(SHARED_QUEUES, "quorum")
    assert found["broker_transport_options"]["confirm_publish"]
    redis = configuration(make_settings("postgresql://h/d"))
    assert not any(redis["task_queues"].values())
    assert "confirm_publish" not in redis["broker_transport_options"]


def test_begun_jobs_get_every_second_turn_and_all_others_one_after_the_other() -> None:
    turns: Any = Turns()  # type: ignore[no-untyped-call] # kombu is untyped
    turns.update(["imports.twilio", RESCUE_QUEUE, "imports.plivo", CONTROL_QUEUE, "batches.sip"])

    def take(*, waiting: set[str], count: int) -> list[str]:
        taken = []
        for _ in range(count):
            queue = next(one for one in turns.consume(5) if one in waiting)
            turns.rotate(queue)
            taken.append(queue)
        return taken

    jobs = {"imports.twilio", "imports.plivo", "batches.sip"}
    take(waiting=jobs, count=1)
    rescued = take(waiting={*jobs, RESCUE_QUEUE}, count=6)
    assert rescued[::2] == [RESCUE_QUEUE] * 3
    assert {*rescued[1::2]} == jobs
    assert take(waiting={*jobs, RESCUE_QUEUE, CONTROL_QUEUE}, count=1) == [CONTROL_QUEUE]
    assert {*take(waiting=jobs, count=3)} == jobs
    # A sweep before each message makes no difference.
    rescued = []
    for _ in range(6):
        take(waiting={CONTROL_QUEUE}, count=1)
        rescued += take(waiting={*jobs, RESCUE_QUEUE}, count=1)
    assert rescued[::2] == [RESCUE_QUEUE] * 3
    assert {*rescued[1::2]} == jobs


def test_no_wait_in_the_broker_reaches_the_visibility_timeout() -> None:
    found = configuration(make_settings("postgresql://h/d"))
    visibility = found["broker_transport_options"]["visibility_timeout"]
    assert visibility == found["visibility_timeout"]
    assert visibility >= 2 * LONGEST_COUNTDOWN


def test_the_broker_keeps_no_results_and_runs_no_code() -> None:
    found = configuration(make_settings("postgresql://h/d"))
    assert found["result_backend"] is None
    assert found["accept_content"] == ["json"]
    assert found["task_routes"] == {"imports.sweep": {"queue": CONTROL_QUEUE}}
    assert found["task_default_queue"] == QUEUE


@pytest.mark.parametrize(
    ("exception", "name"),
    [
        (KeyError("planted-secret"), "KeyError"),
        (RuntimeError("number_not_owned: planted-secret"), "RuntimeError"),
        ("sqlalchemy.exc.OperationalError('... [parameters: planted-secret]')", None),
        ("<Odd planted-secret>", "Exception"),
    ],
)
def test_flower_gets_the_name_alone_of_what_was_not_foreseen(
    exception: Exception | str, name: str | None
) -> None:
    said = exception if isinstance(exception, str) else repr(exception)
    short, long = shown_error(said)

    assert short == (name or "sqlalchemy.exc.OperationalError")
    assert long == f"{short}: not foreseen; the worker's log tells where."


def test_flower_gets_our_own_errors_as_callers_do() -> None:
    error = NumberNotOwned("Planted detail.")

    assert shown_error(repr(error)) == ("number_not_owned", "number_not_owned: Planted detail.")


def test_every_task_tells_flower_of_its_errors_in_this_way() -> None:
    ours = [task for name, task in app.tasks.items() if not name.startswith("celery.")]

    assert len(ours) > 2 * len(StepName)
    assert {task.Request for task in ours} == {"worker.celery_app:ShownRequest"}
