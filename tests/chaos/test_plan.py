from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from math import prod

import pytest

from deploy.sandbox.faults import Faults, FaultSpec
from deploy.sandbox.journal import Attribution, Entry
from tests.chaos.accounts import MARKER, prepare
from tests.chaos.plan import CALLS_HURT, LANES, MODES, PROVIDERS, SIZES, Size, calls_hurt, plan_of

AGENTS = {"day": "agt_1", "night": "agt_2"}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_a_plan_is_a_function_of_its_seed(size: Size) -> None:
    assert plan_of(7, size) == plan_of(7, size)
    again, other = plan_of(7, size), plan_of(8, size)
    assert again.imports != other.imports
    assert again.faults != other.faults
    assert again.calls != other.calls
    prepared = [prepare(plan_of(7, size), AGENTS, "http://127.0.0.1:1/hook") for _ in range(2)]
    assert prepared[0] == prepared[1]


def test_another_process_makes_the_same_plan() -> None:
    def told(hash_seed: str) -> str:
        code = (
            "from tests.chaos.plan import SIZES, plan_of; "
            "print([plan_of(7, size) for size in SIZES.values()])"
        )
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(  # noqa: S603 -- our own code
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        )
        return sha256(done.stdout).hexdigest()

    # The order of a set of texts differs between them.
    assert told("1") == told("2")


def test_a_full_run_is_as_large_as_the_design_asks() -> None:
    for seed in range(20):
        plan = plan_of(seed, SIZES["full"])
        assert len(plan.imports) >= 500
        assert plan.size.seconds >= 300
        releases = [one for one in plan.imports if ("release" in dict(one.then))]
        # Some imports fail before they can be released.
        assert len(releases) > 130
        kinds = Counter((one.provider, one.mode) for one in plan.imports)
        assert kinds.keys() == {(name, mode) for name in PROVIDERS for mode in MODES[name]}
        assert min(kinds.values()) > 80
        fates = Counter(one.fate for one in plan.imports)
        assert min(fates.values()) >= 5
        assert sum(one.cancel_after is not None for one in plan.imports) > 30
        assert sum(one.twice for one in plan.imports) > 50
        faults = Counter(fault.kind for fault in plan.faults)
        assert faults.keys() == {kind for lane in LANES.values() for kind in lane}
        assert faults["worker killed"] > 30


def test_only_plain_imports_share_an_account_of_their_own_vendor() -> None:
    plan = plan_of(3, SIZES["full"])
    by_serial = {one.serial: one for one in plan.imports}
    sharing = [one for one in plan.imports if one.shares_with != one.serial]
    assert sharing
    for one in sharing:
        first = by_serial[one.shares_with]
        assert (first.provider, first.fate, one.fate) == (one.provider, "plain", "plain")
    assert max(Counter(one.shares_with for one in plan.imports).values()) == 4


def test_every_import_of_a_vendor_has_an_account_and_every_secret_is_marked() -> None:
    plan = plan_of(3, replace(SIZES["full"], imports=200))
    prepared, seeds = prepare(plan, AGENTS, "http://127.0.0.1:1/hook")
    accounts = [account for seed in seeds.values() for account in seed["accounts"]]
    held = {
        number.get("number") or number["phone_number"].lstrip("+")
        for account in accounts
        for number in account["numbers"]
    }
    for one in prepared:
        owned = one.number.lstrip("+") in held
        assert owned == (one.planned.provider != "sip" and one.planned.fate != "not_owned")
        for name in ("auth_token", "api_key"):
            if name in one.body.get("credentials", {}):
                assert one.body["credentials"][name].startswith(MARKER)
    assert len(held) == len([one for one in prepared if one.planned.provider != "sip"])
    assert len({one.key for one in prepared}) == len(prepared)


def test_a_fifth_of_all_calls_is_hurt_each_kind_by_its_share() -> None:
    assert sum(share for share, _ in CALLS_HURT) == pytest.approx(0.2)
    specs = calls_hurt(11, 6)
    assert prod(1 - spec["probability"] for spec in specs) == pytest.approx(0.8)
    faults = Faults()
    ids = {
        faults.add(FaultSpec(**spec)).id: share
        for spec, (share, _) in zip(specs, CALLS_HURT, strict=True)
    }
    calls, struck, hurt = 20_000, Counter[str](), 0
    for seq in range(calls):
        entry = Entry(
            seq=seq, at=0.0, vendor="twilio", operation="x", write=True, method="POST", path="/",
            account=None, made_by=Attribution(), fields=dict,
        )  # fmt: skip
        faults.strike(entry)
        struck.update(one["id"] for one in entry.faults)
        hurt += bool(entry.faults)
    assert hurt / calls == pytest.approx(0.2, abs=0.01)
    for fault_id, share in ids.items():
        assert struck[fault_id] / calls == pytest.approx(share, abs=0.005)
