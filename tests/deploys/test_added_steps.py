"""A release with more steps than the one before: takes over, works beside it, is taken back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import pytest

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
from tests.faults.held import lose_trunk
from tests.faults.scenes import ORIGINAL
from tests.rig import Customer, Rig

#: Steps whose calls can be parked, in their order.
CALLING: Final = (
    "validate_credentials",
    "check_ownership",
    "configure_webhooks",
    "provision_trunks",
    "create_dispatch_rule",
    "route_number",
)
UNDOING: Final = ("route_number", "provision_trunks", "configure_webhooks")


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with a step before all others, one between them, and one after them."""
    release = NextRelease(tmp_path_factory.mktemp("wider"))
    release.add_step("greet_account", before="validate_credentials")
    release.add_step("reserve_channel", before="provision_trunks")
    release.add_step("announce_number", before=None)
    return release.root


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with a step between the others and one after them."""
    release = NextRelease(tmp_path_factory.mktemp("longer"))
    release.add_step("reserve_channel", before="provision_trunks")
    release.add_step("announce_number", before=None)
    return release.root


def _made(rig: Rig, import_ids: Iterable[str]) -> dict[str, Counter[str]]:
    """Returns what the added steps have made for each import, and how often."""
    found = {import_id: Counter[str]() for import_id in import_ids}
    for trunk in rig.state()["livekit"]["outbound_trunks"].values():
        import_id, _, step = trunk["name"].partition(":")
        if import_id in found:
            found[import_id][step] += 1
    return found


def _expected(parked_at: str | None) -> Counter[str]:
    """What a job goes on to make from where the release before has left it."""
    if parked_at is None:
        return Counter(["greet_account", "reserve_channel", "announce_number"])
    if CALLING.index(parked_at) < CALLING.index("provision_trunks"):
        return Counter(["reserve_channel", "announce_number"])
    return Counter(["announce_number"])


def _unrestored(rig: Rig, customers: Iterable[Customer]) -> list[str]:
    """Returns what is not as it was before the imports."""
    wrong = []
    for number, found in rig.outside(customers).items():
        voice = found.account["numbers"][number]["voice_url"]
        if voice != ORIGINAL["voice_url"] or any(found.made.values()):
            wrong.append(f"{number} goes to {voice} and left {found.made}")
    return wrong


@pytest.mark.timeout(180)
def test_a_release_with_more_steps_takes_over_every_job_of_the_one_before(
    rig: Rig, wider: Path
) -> None:
    parked = park(rig, PROJECT, steps=CALLING, undos=UNDOING)
    queued = dict(submit(rig) for _ in range(2))
    ended = {key: (one.scene, one.customer) for key, one in parked.items()}
    ended |= {key: (SUCCEEDS, customer) for key, customer in queued.items()}
    with working(worker_of(rig, wider, name="new")):
        rig.wait(ended)
        assert not (wrong := faults(rig, ended)), wrong
        active = {key: one.at for key, one in parked.items() if one.scene is SUCCEEDS}
        expected = {key: _expected(at) for key, at in active.items()}
        expected |= {key: _expected(None) for key in queued}
        expected |= {key: Counter() for key, one in parked.items() if one.scene is FAILS}
        assert _made(rig, ended) == expected
        # A repair brings what a number lacks that was imported before.
        lacking = next(key for key, at in active.items() if at == "route_number")
        customer = ended[lacking][1]
        (trunk,) = rig.outside([customer])[customer.number].outbound
        lose_trunk(rig, trunk["sip_trunk_id"])
        number = rig.job(lacking)["phone_number_id"]
        repair = rig.api.post(f"/v1/phone-numbers/{number}/check?repair=true").json()["id"]
        assert rig.wait([repair])[repair]["status"] == "active"
        assert _made(rig, [lacking]) == {lacking: _expected(None)}
        # The API of the release before does not know what there is to undo first.
        released = release_all(rig, ended)
        assert len(released) == len(active) + len(queued)
        states = {job["status"] for job in rig.wait(released).values()}
        assert states == {"released"}
    customers = [customer for _, customer in ended.values()]
    assert not (wrong := _unrestored(rig, customers)), wrong
    assert not any(_made(rig, ended).values())


@pytest.mark.timeout(180)
def test_workers_of_both_releases_share_the_jobs(rig: Rig, longer: Path) -> None:
    old, new = worker_of(rig, name="old"), worker_of(rig, longer, name="new")
    with working(old, new):
        ended = {}
        for place in range(24):
            scene = FAILS if place % 4 == 0 else SUCCEEDS
            import_id, customer = submit(rig, scene)
            ended[import_id] = (scene, customer)
        rig.wait(ended, seconds=90)
        assert not (wrong := faults(rig, ended)), wrong
        made = _made(rig, ended)
        assert {count for found in made.values() for count in found.values()} == {1}
        assert not any(made[key] for key, (scene, _) in ended.items() if scene is FAILS)
        released = release_all(rig, ended)
        states = {job["status"] for job in rig.wait(released, seconds=90).values()}
        assert states == {"released"}
    assert not (wrong := _unrestored(rig, (customer for _, customer in ended.values()))), wrong
    assert not any(_made(rig, ended).values())
    assert old.exit_code == new.exit_code == 0


@pytest.mark.timeout(180)
def test_a_release_that_is_taken_back_leaves_its_jobs_to_be_ended_by_itself(
    rig: Rig, longer: Path
) -> None:
    with working(worker_of(rig, longer, name="new")):
        held, customer = submit(rig)
        rig.wait([held])
    parked = park(
        rig,
        longer,
        steps=[*CALLING[:4], "reserve_channel", "announce_number", "route_number"],
        undos=["reserve_channel", "route_number"],
    )
    queued = dict(submit(rig) for _ in range(2))
    begun = {"reserve_channel", *CALLING[3:], "announce_number"}
    foreign = {key for key, one in parked.items() if one.at.removesuffix(".undo") in begun}
    ended = {key: (one.scene, one.customer) for key, one in parked.items()}
    ended |= {key: (SUCCEEDS, one) for key, one in queued.items()} | {held: (SUCCEEDS, customer)}
    old = worker_of(rig, name="old")
    with working(old):
        release = release_all(rig, [held])
        foreign |= {*release}
        rig.wait(ended.keys() - foreign)
        before, calls = rows(rig, foreign), _calls(rig, foreign)
        time.sleep(2)
        assert rows(rig, foreign) == before
        assert _calls(rig, foreign) == calls
        _shows(rig, foreign)
        # What it cannot undo it does not turn round either; who can, does.
        cancelled = next(key for key in foreign if rig.job(key)["status"] == "running")
        assert rig.api.post(f"/v1/imports/{cancelled}/cancel").status_code == 202
        assert rows(rig, [cancelled])[cancelled][:2] == before[cancelled][:2]
    assert old.exit_code == 0
    assert "Traceback" not in old.log_file.read_text()
    with working(worker_of(rig, longer, name="new")):
        done = rig.wait([*ended, *release])
    assert done[cancelled]["status"] == "cancelled"
    assert done[release[0]]["status"] == "released"
    untouched = {cancelled: ended.pop(cancelled), held: ended.pop(held)}
    assert not (wrong := _unrestored(rig, (customer for _, customer in untouched.values()))), wrong
    assert not (wrong := faults(rig, ended)), wrong
    assert not any(_made(rig, untouched).values())
    assert {count for found in _made(rig, ended).values() for count in found.values()} == {1}


def _calls(rig: Rig, job_ids: Iterable[str]) -> Mapping[str, int]:
    return {job_id: len(rig.journal(job_id)) for job_id in job_ids}


def _shows(rig: Rig, job_ids: Iterable[str]) -> None:
    """The API of the release that does not understand a job shows all that it holds."""
    for job_id in job_ids:
        names = {step["name"] for step in rig.job(job_id)["steps"]}
        assert names > {*CALLING}
        assert names & {"reserve_channel", "announce_number"}
    assert rig.api.get("/v1/imports").status_code == 200
