"""Every contract's document, line by line, against the running API."""

from __future__ import annotations

import httpx
import pytest

from tests.contract.dialects.case import Case, Contract
from tests.contract.dialects.cases import butter, nixflex, oneinbox, ravan, weya
from tests.contract.dialects.world import World

CONTRACTS = (
    ravan.CONTRACT,
    butter.CONTRACT,
    weya.CONTRACT,
    nixflex.CONTRACT,
    oneinbox.CONTRACT,
)


@pytest.mark.parametrize(
    ("contract", "case"),
    [
        pytest.param(contract, case, id=f"{contract.name}-{case.name}")
        for contract in CONTRACTS
        for case in contract.cases
    ],
)
def test_contract(world: World, contract: Contract, case: Case) -> None:
    case.before(world)
    headers = contract.headers(world, world.key) if case.headers is None else case.headers(world)
    content = case.request(world)
    raw = {"content": content} if isinstance(content, str | bytes) else {"json": content}
    with httpx.Client(base_url=world.rig.stack.api_url, timeout=60, trust_env=False) as client:
        answer = client.request(
            contract.method,
            f"/dialects/{contract.name}{contract.path}",
            headers={"Content-Type": "application/json", **headers},
            **raw,
        )
    assert answer.status_code == case.status, answer.text
    assert case.body(world) == answer.json()
    assert answer.headers["content-type"].startswith("application/json")
    case.after(world)
