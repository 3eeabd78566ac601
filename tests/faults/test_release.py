"""What a release puts back, what it leaves alone, and what it cannot do without a person."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.faults.held import (
    KINDS,
    Held,
    at_livekit,
    hold,
    livekit_texts,
    made,
    not_given_back,
    release,
)
from tests.rig import Rig

#: Vendor → what a customer who chooses another target for calls sets; {} is filled in.
_POINTER: Final = {"twilio": "voice_url", "telnyx": "connection_id", "plivo": "app_id"}
#: Vendor and mode → kind of our object that another number can be attached to by hand.
_TARGETS: Final = {
    "twilio-webhook": "trunk",
    "twilio-sip_trunk": "trunk",
    "telnyx-webhook": "texml_application",
    "telnyx-sip_trunk": "fqdn_connection",
    "plivo-webhook": "application",
    "plivo-sip_trunk": "trunk",
}


@pytest.fixture(scope="module", autouse=True)
def _working(rig: Rig) -> Iterator[None]:
    rig.stack.workers[0].start()
    yield
    rig.stack.workers[0].stop()


def _account(rig: Rig, held: Held) -> dict[str, Any]:
    account: dict[str, Any] = rig.state()[held.order.vendor]["accounts"][held.order.account]
    return account


def _key(held: Held, number: str) -> str:
    return number.lstrip("+") if held.order.vendor == "plivo" else number


def _edit(rig: Rig, held: Held, number: str, **change: Any) -> None:
    where = {"vendor": held.order.vendor, "account": held.order.account}
    rig.control("edit", {**where, "phone_number": number, **change})


def _seed(rig: Rig, held: Held, **more: Any) -> None:
    name = {"twilio": "sid", "telnyx": "id", "plivo": "auth_id"}[held.order.vendor]
    account = {name: held.order.account, **more}
    if held.order.vendor == "telnyx":
        account["api_key"] = held.order.body["credentials"]["api_key"]
    rig.control("seed", {held.order.vendor: {"accounts": [account]}})


def _new_target(rig: Rig, held: Held) -> str:
    """Makes another place in the account for calls to go to; returns its URL or id."""
    match held.order.vendor:
        case "telnyx":
            other = {"id": "7799", "friendly_name": "new", "voice_url": "https://new.example.com/"}
            _seed(rig, held, connections=[{"record_type": "texml_application", **other}])
            return "7799"
        case "plivo":
            other = {"app_name": "new", "answer_url": "https://new.example.com/"}
            _seed(rig, held, applications=[{"app_id": "8899", **other}])
            return "8899"
        case _:
            return "https://new.example.com/"


@pytest.mark.timeout(120)
def test_every_kind_is_as_it_was_after_the_first_release_and_after_the_second(rig: Rig) -> None:
    first = hold(rig, KINDS)
    jobs = {release(rig, held): held for held in first}
    rig.settle()
    assert not (wrong := not_given_back(rig, jobs)), "\n".join(wrong)
    again = {}
    for held in first:
        answer = rig.api.post("/v1/imports", json=held.order.body)
        assert answer.status_code == 202, answer.text
        again[answer.json()["id"]] = held
    rig.settle()
    jobs = {}
    for import_id, held in again.items():
        job = rig.job(import_id)
        assert job["status"] == "active", (str(held.kind), job["error"])
        second = replace(held, import_id=import_id, number_id=job["phone_number_id"])
        jobs[release(rig, second)] = second
    rig.settle()
    assert not (wrong := not_given_back(rig, jobs)), "\n".join(wrong)


@pytest.mark.timeout(120)
def test_a_number_that_its_owner_pointed_elsewhere_stays_there(rig: Rig) -> None:
    numbers = hold(rig, KINDS)
    theirs = {}
    for held in numbers:
        target = theirs[held.number_id] = _new_target(rig, held)
        change = {_POINTER[held.order.vendor]: target}
        if str(held.kind) == "twilio-sip_trunk":
            change["trunk_sid"] = ""
        _edit(rig, held, held.order.number, set=change)
    jobs = {release(rig, held): held for held in numbers}
    rig.settle()
    state = rig.state()
    for job_id, held in jobs.items():
        assert rig.job(job_id)["status"] == "released", str(held.kind)
        number = _account(rig, held)["numbers"][_key(held, held.order.number)]
        assert number[_POINTER[held.order.vendor]] == theirs[held.number_id], str(held.kind)
        assert "trunkline" not in str(number), str(held.kind)
        assert not made(state, held), str(held.kind)
        assert not at_livekit(livekit_texts(state), held), str(held.kind)


@pytest.mark.timeout(120)
def test_a_number_that_left_the_account_leaves_nothing_of_ours(rig: Rig) -> None:
    jobs = {}
    for held in hold(rig, KINDS):
        _edit(rig, held, held.order.number, remove=True)
        without = deepcopy(dict(held.before))
        del without["numbers"][_key(held, held.order.number)]
        jobs[release(rig, held)] = replace(held, before=without)
    rig.settle()
    assert not (wrong := not_given_back(rig, jobs)), "\n".join(wrong)


@pytest.mark.timeout(120)
def test_another_number_on_what_is_ours_keeps_it_until_it_has_moved_away(rig: Rig) -> None:
    jobs, others = {}, {}
    for held in hold(rig, KINDS):
        other = f"+1646{held.order.number[5:]}"
        field = {"plivo": "number"}.get(held.order.vendor, "phone_number")
        _seed(rig, held, numbers=[{field: _key(held, other)}])
        seeded = _account(rig, held)["numbers"][_key(held, other)]
        before = deepcopy(dict(held.before))
        before["numbers"][_key(held, other)] = seeded
        pointer = "trunk_sid" if held.order.vendor == "twilio" else _POINTER[held.order.vendor]
        kind = _TARGETS[str(held.kind)]
        (target, *_) = [found for name, found in made(rig.state(), held) if name == kind]
        if str(held.kind) == "plivo-sip_trunk":
            trunks = _account(rig, held)["zentrunk"]["trunks"]
            (target,) = (k for k, one in trunks.items() if one["trunk_direction"] == "inbound")
        _edit(rig, held, other, set={pointer: target})
        job_id = release(rig, held)
        jobs[job_id] = replace(held, before=before)
        nowhere = "" if held.order.vendor == "twilio" else None
        others[job_id] = (other, {pointer: seeded[pointer] or nowhere}, target)
    rig.settle()
    for job_id, held in jobs.items():
        job = rig.job(job_id)
        assert job["status"] == "stuck", str(held.kind)
        assert "Another phone number uses" in job["undo_error"]["message"], str(held.kind)
        other, back, target = others[job_id]
        assert target in str(_account(rig, held)["numbers"][_key(held, other)]), str(held.kind)
        _edit(rig, held, other, set=back)
        answer = rig.api.post(f"/v1/imports/{job_id}/retry")
        assert answer.status_code == 202, answer.text
    rig.settle()
    assert not (wrong := not_given_back(rig, jobs)), "\n".join(wrong)


def _revoke(rig: Rig, held: Held, job_id: str) -> dict[str, str]:
    """Makes the account's present credentials worthless; returns others that are good."""
    given: dict[str, str] = held.order.body["credentials"]
    if held.order.vendor != "telnyx":
        _seed(rig, held, auth_token="sandbox-token-2")
        return {**given, "auth_token": "sandbox-token-2"}
    # The sandbox never forgets a key: to this job it is as if it had.
    rig.fault(vendor="telnyx", import_id=job_id, action="status", status=401, times=None)
    key = f"{given['api_key']}-new"
    _seed(rig, held, api_keys=[{"api_key": key}])
    return {**given, "api_key": key}


@pytest.mark.timeout(120)
def test_a_release_with_revoked_credentials_goes_on_with_new_ones(rig: Rig) -> None:
    numbers = hold(rig, KINDS)
    rig.stack.workers[0].stop()
    jobs, good = {}, {}
    for held in numbers:
        job_id = release(rig, held)
        good[job_id] = _revoke(rig, held, job_id)
        jobs[job_id] = held
    rig.stack.workers[0].start()
    rig.settle()
    for job_id, held in jobs.items():
        job = rig.job(job_id)
        assert (job["status"], job["undo_error"]["step"]) == ("stuck", "route_number"), held
        # Nobody who could not look has touched anything: the number's calls still arrive.
        assert not [entry for entry in rig.journal(job_id) if entry["write"]]
        number = rig.api.get(held.path).json()
        changed = rig.api.patch(
            f"/v1/credentials/{number['credential_id']}", json={"credentials": good[job_id]}
        )
        assert changed.status_code == 200, (str(held.kind), changed.text)
    rig.sandbox.delete("/_sandbox/faults")
    for job_id, held in jobs.items():
        assert rig.api.post(f"/v1/imports/{job_id}/retry").status_code == 202
        if held.order.vendor == "telnyx":
            keys = _account(rig, held)["keys"]
            jobs[job_id] = replace(held, before={**held.before, "keys": keys})
    rig.settle()
    assert not (wrong := not_given_back(rig, jobs)), "\n".join(wrong)
