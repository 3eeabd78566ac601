"""A repair that fails half way: what it made is found by whatever comes next."""

from __future__ import annotations

import pytest

from tests.faults.held import (
    KINDS,
    WEBHOOKS,
    Held,
    hold,
    how_many,
    lose,
    not_given_back,
    rebind,
    release,
    repair,
)
from tests.rig import Rig

#: Vendor → the read that proves a number was moved.
_READS = {
    "twilio": "twilio.incoming_phone_numbers.fetch",
    "telnyx": "telnyx.phone_numbers.retrieve",
    "plivo": "plivo.numbers.fetch",
}


def _half_repaired(rig: Rig) -> dict[str, tuple[Held, dict[str, int]]]:
    """Numbers whose repair made everything anew, moved the number there, and then failed.

    Returns by the repair's id the number and how much there was of each kind before.
    """
    worker = rig.stack.workers[0]
    worker.start()
    # Where the number itself carries the URLs, nothing that is made anew decides where it goes.
    held = hold(rig, [kind for kind in KINDS if str(kind) != "twilio-webhook"])
    worker.stop()
    state, jobs = rig.state(), {}
    for one in held:
        lose(rig, one)
        jobs[repair(rig, one)] = one, how_many(state, one)
    for job_id, (one, _) in jobs.items():
        rig.fault(
            import_id=job_id,
            step="route_number",
            operation=_READS[one.order.vendor],
            nth=2,
            action="status",
            status=403,
        )
    worker.start()
    rig.settle()
    for job_id, (one, _) in jobs.items():
        job = rig.job(job_id)
        assert (job["status"], job["error"]["step"]) == ("failed", "route_number"), str(one.kind)
    return jobs


@pytest.mark.timeout(120)
def test_a_number_is_given_back_after_a_repair_that_failed(rig: Rig) -> None:
    jobs = {release(rig, one): one for one, _ in _half_repaired(rig).values()}
    rig.settle()
    rig.stack.workers[0].stop()
    # Those who deleted our application or trunk took the number off it, and the repair put it back.
    assert not (wrong := not_given_back(rig, jobs)), "\n".join(wrong)


@pytest.mark.timeout(120)
def test_a_repair_that_failed_can_be_done_again(rig: Rig) -> None:
    failed = _half_repaired(rig)
    again = {job_id: rig.api.post(f"/v1/imports/{job_id}/retry") for job_id in failed}
    assert {answer.status_code for answer in again.values()} == {202}
    rig.settle()
    state = rig.state()
    for job_id, (one, count) in failed.items():
        assert rig.job(job_id)["status"] == "active", str(one.kind)
        assert how_many(state, one) == count, str(one.kind)
        checked = rig.api.post(f"{one.path}/check").json()
        assert checked["verdict"] == "ok", checked["summary"]
    rig.stack.workers[0].stop()


@pytest.mark.timeout(60)
def test_a_release_waits_for_a_write_of_a_repair_that_failed_just_now(rig: Rig) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    (held,) = hold(rig, WEBHOOKS[:1])
    worker.stop()
    account = {"vendor": "twilio", "account": held.order.account}
    theirs = {"voice_url": "https://new-pbx.example.com/voice"}
    rig.control("edit", {**account, "phone_number": held.order.number, "set": theirs})
    job_id = repair(rig, held)
    # Its last attempt sends the write and hears nothing; it lands when the job has failed.
    rig.sql(
        "UPDATE job_steps SET attempts = 7 WHERE step = 'route_number' "  # noqa: S608 -- ours
        f"AND job_id = '{job_id.removeprefix('imp_')}'"
    )
    rig.fault(import_id=job_id, step="route_number", write=True, action="delay", seconds=2.0)
    worker.start()
    assert rig.wait([job_id])[job_id]["status"] == "failed"
    released = release(rig, held)
    rig.settle()
    worker.stop()
    assert not (wrong := not_given_back(rig, {released: held})), wrong


@pytest.mark.timeout(60)
def test_a_failed_repair_that_is_retried_keeps_what_was_changed_since(rig: Rig) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    (held,) = hold(rig, WEBHOOKS[:1])
    worker.stop()
    lose(rig, held)
    failed = repair(rig, held)
    rig.fault(import_id=failed, step="validate_credentials", action="status", status=403)
    worker.start()
    assert rig.wait([failed])[failed]["status"] == "failed"
    again = repair(rig, held)
    assert rig.wait([again])[again]["status"] == "active"
    concierge = rig.agent("concierge")
    rebound = rebind(rig, held, {"agent_id": concierge})
    assert rig.wait([rebound])[rebound]["status"] == "active"
    answer = rig.api.post(f"/v1/imports/{failed}/retry")
    assert answer.status_code == 202, answer.text
    rig.settle()
    worker.stop()
    assert rig.job(failed)["status"] == "active"
    assert rig.api.get(held.path).json()["agent_id"] == concierge
    trace = rig.call(held.order.vendor, held.order.account, held.order.number)
    assert trace["agent_name"] == "concierge", trace["steps"]


@pytest.mark.timeout(60)
def test_a_failed_rebinding_is_not_retried_over_a_later_one(rig: Rig) -> None:
    worker = rig.stack.workers[0]
    worker.start()
    (held,) = hold(rig, WEBHOOKS[:1])
    worker.stop()
    failed = rebind(rig, held, {"agent_id": rig.agent("concierge")})
    rig.fault(import_id=failed, vendor="livekit", action="status", status=403)
    worker.start()
    assert rig.wait([failed])[failed]["status"] == "failed"
    later = rebind(rig, held, {"agent_id": rig.agent("night-desk")})
    assert rig.wait([later])[later]["status"] == "active"
    answer = rig.api.post(f"/v1/imports/{failed}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state"), answer.text
    worker.stop()
    trace = rig.call(held.order.vendor, held.order.account, held.order.number)
    assert trace["agent_name"] == "night-desk", trace["steps"]
