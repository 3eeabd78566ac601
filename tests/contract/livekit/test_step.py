"""Steps at LiveKit on a real database: the rule, the fallback route, undo, and no way inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from uuid_utils.compat import uuid7

from tests.contract.livekit.conftest import NUMBER, PIN, SECRET, Sandbox
from worker.db.claims import Claims
from worker.db.directory import Directory
from worker.db.engine import make_engine
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers
from worker.db.records import Claim, NewJob
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.errors import LiveKitUnavailable, SipTrunkProvisionFailed
from worker.domain.job import Lease, StepName
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import (
    MediaEncryption,
    Ownership,
    ProviderName,
    RoutingMode,
    SipTransport,
)
from worker.livekit import FALLBACK_INBOUND, FALLBACK_RULE, INBOUND, RULE
from worker.settings import Settings
from worker.steps import create_dispatch_rule, provision_trunks
from worker.steps._core import Context, Runtime

SPEC = ImportSpec(
    phone_number=NUMBER,
    provider=ProviderName.TWILIO,
    routing_mode=RoutingMode.WEBHOOK,
    ownership=Ownership.PROVEN,
    number_sid=None,
    friendly_name=None,
    agent_id="agt_1",
    user_id=None,
    supports_inbound=True,
    supports_outbound=False,
    replace_existing_routing=False,
    sms_enabled=False,
    sip_trunk_name=None,
    sip_address=None,
    sip_transport=SipTransport.AUTO,
    media_encryption=MediaEncryption.ALLOW,
    allowed_addresses=("203.0.113.0/24",),
    room_prefix="call-",
    fallback_agent_id="agt_2",
    voicemail_message=None,
    price=None,
    metadata={},
)
SECRETS = ImportSecrets(
    inbound_username="trunkline",
    inbound_password="planted-inbound-password",
    termination_username="unused",
    termination_password="unused",
    sip_username=None,
    sip_password=None,
    pin=PIN,
    fingerprint="f",
)
#: Starts an attempt at the step, as the guard does; keyword arguments change the claim.
Begin = Callable[..., Context]


@pytest.fixture
def runtime(settings: Settings, sandbox: Sandbox) -> Iterator[Runtime]:
    livekit = {
        "livekit_url": f"{sandbox.url}/livekit",
        "livekit_api_key": "APIsandbox",
        "livekit_api_secret": SecretStr(SECRET),
    }
    settings = settings.model_copy(update=livekit)
    engine = make_engine(settings)
    yield Runtime(
        settings=settings,
        jobs=JobRepository(engine, resend_after_seconds=2),
        claims=Claims(engine, resend_after_seconds=2),
        numbers=Numbers(engine),
        notifications=Notifications(engine),
        vault=Vault(settings.vault_keys),
    )
    engine.dispose()


def submit(runtime: Runtime, spec: ImportSpec) -> Claim:
    """Brings an import to the step; its inbound trunk is there."""
    engine = make_engine(runtime.settings)
    directory = Directory(engine)
    organization_id = directory.create_organization("Acme")
    credential = {"account_sid": f"AC{'0' * 32}", "auth_token": "planted-auth-token"}
    job = NewJob(
        id=uuid7(),
        organization_id=organization_id,
        api_key_id=None,
        idempotency_key=None,
        provider="twilio",
        e164=NUMBER,
        credential_id=directory.create_credential(
            organization_id,
            provider="twilio",
            account_ref="AC1",
            label="",
            sealed=runtime.vault.seal(credential),
        ),
        account_ref="AC1",
        agent_id=None,
        user_id=None,
        phone_number_id=uuid7(),
        request=spec.to_json(),
        sealed=runtime.vault.seal(SECRETS.to_json()),
        notify=False,
        warnings=[],
    )
    engine.dispose()
    assert runtime.jobs.submit(job, None)
    for step in StepName:
        claim = runtime.claims.begin_step(job.id, step, attempts=3, lease_seconds=600)
        assert isinstance(claim, Claim)
        if step is StepName.CREATE_DISPATCH_RULE:
            return claim
        objects = {INBOUND: "ST_main"} if step is StepName.PROVISION_TRUNKS else {}
        runtime.claims.record_objects(claim, objects)
        runtime.claims.finish_step(claim, output={}, sealed=None)
    raise AssertionError


@pytest.fixture
def begin(runtime: Runtime) -> Begin:
    def start(claim: Claim, **changes: Any) -> Context:
        job = runtime.jobs.get(claim.job.id)
        assert job is not None
        asked = {"agent_dispatch_name": "receptionist", "fallback_dispatch_name": "night-shift"}
        claim = replace(claim, job=job, **{**asked, **changes})
        return Context(runtime, claim, Lease(seconds=600))

    return start


def recorded(runtime: Runtime, claim: Claim) -> dict[str, str]:
    job = runtime.jobs.get(claim.job.id)
    assert job is not None
    return dict(job.steps[StepName.CREATE_DISPATCH_RULE].objects)


def test_makes_the_rule_and_the_fallback_route_and_undoes_both(
    runtime: Runtime, sandbox: Sandbox, begin: Begin
) -> None:
    claim = submit(runtime, SPEC)
    create_dispatch_rule.run(begin(claim))
    ids = recorded(runtime, claim)
    assert ids.keys() == {RULE, FALLBACK_INBOUND, FALLBACK_RULE}
    assert sandbox.rules.keys() == {ids[RULE], ids[FALLBACK_RULE]}
    assert sandbox.rules[ids[RULE]]["trunk_ids"] == ["ST_main"]
    trunk = sandbox.inbound[ids[FALLBACK_INBOUND]]
    assert trunk["auth_username"] == "trunkline"
    assert trunk["allowed_addresses"] == ["203.0.113.0/24"]
    create_dispatch_rule.run(begin(claim))
    assert recorded(runtime, claim) == ids
    create_dispatch_rule.undo(begin(claim, undo=True))
    create_dispatch_rule.undo(begin(claim, undo=True))
    assert (sandbox.inbound, sandbox.rules) == ({}, {})


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (SPEC, {"fallback_dispatch_name": None}),
        (replace(SPEC, routing_mode=RoutingMode.SIP_TRUNK), {}),
    ],
    ids=["no fallback agent", "sip_trunk mode"],
)
def test_without_a_fallback_the_import_makes_the_rule_alone(
    runtime: Runtime, sandbox: Sandbox, begin: Begin, spec: ImportSpec, changes: dict[str, Any]
) -> None:
    claim = submit(runtime, spec)
    create_dispatch_rule.run(begin(claim, **changes))
    assert recorded(runtime, claim).keys() == {RULE}
    assert [entry["operation"] for entry in sandbox.journal()] == [
        "livekit.list_sip_dispatch_rule",
        "livekit.create_sip_dispatch_rule",
    ]
    create_dispatch_rule.undo(begin(claim, undo=True, **changes))
    assert sandbox.rules == {}


def test_without_inbound_calls_nothing_is_asked(
    runtime: Runtime, sandbox: Sandbox, begin: Begin
) -> None:
    claim = submit(runtime, replace(SPEC, supports_inbound=False))
    create_dispatch_rule.run(begin(claim))
    create_dispatch_rule.undo(begin(claim, undo=True))
    assert sandbox.journal() == []


def test_rebinding_changes_the_rule_in_place(
    runtime: Runtime, sandbox: Sandbox, begin: Begin
) -> None:
    claim = submit(runtime, SPEC)
    create_dispatch_rule.run(begin(claim))
    ids, before = recorded(runtime, claim), len(sandbox.writes())
    create_dispatch_rule.run(
        begin(claim, agent_dispatch_name="concierge", fallback_dispatch_name="watch")
    )
    assert recorded(runtime, claim) == ids
    assert sandbox.writes()[before:] == ["livekit.update_sip_dispatch_rule"] * 2
    agents = {
        key: sandbox.rules[ids[key]]["room_config"]["agents"][0]["agent_name"]
        for key in (RULE, FALLBACK_RULE)
    }
    assert agents == {RULE: "concierge", FALLBACK_RULE: "watch"}


def test_rebinding_without_a_fallback_agent_removes_the_route_and_keeps_the_rule(
    runtime: Runtime, sandbox: Sandbox, begin: Begin
) -> None:
    claim = submit(runtime, SPEC)
    create_dispatch_rule.run(begin(claim))
    ids, before = recorded(runtime, claim), len(sandbox.writes())
    create_dispatch_rule.run(begin(claim, fallback_dispatch_name=None))
    assert (list(sandbox.rules), sandbox.inbound) == ([ids[RULE]], {})
    assert sandbox.writes()[before:] == [
        "livekit.delete_sip_dispatch_rule",
        "livekit.delete_sip_trunk",
    ]
    # And back again, although ids of what is gone are recorded.
    create_dispatch_rule.run(begin(claim))
    again = recorded(runtime, claim)
    assert again[RULE] == ids[RULE]
    assert sandbox.rules.keys() == {again[RULE], again[FALLBACK_RULE]}
    assert list(sandbox.inbound) == [again[FALLBACK_INBOUND]]


@pytest.mark.parametrize("lost", ["create_sip_inbound_trunk", "create_sip_dispatch_rule"])
def test_fallback_whose_answer_was_lost_is_removed_when_no_longer_wanted(
    runtime: Runtime, sandbox: Sandbox, begin: Begin, lost: str
) -> None:
    claim = submit(runtime, SPEC)
    create_dispatch_rule.run(begin(claim, fallback_dispatch_name=None))
    [rule_id] = sandbox.rules
    sandbox.fault(lost, "lost")
    with pytest.raises(LiveKitUnavailable):
        create_dispatch_rule.run(begin(claim))
    assert len(sandbox.inbound) == 1
    create_dispatch_rule.run(begin(claim, fallback_dispatch_name=None))
    assert (list(sandbox.rules), sandbox.inbound) == ([rule_id], {})


@pytest.mark.parametrize(
    "lost", ["create_sip_inbound_trunk", "create_sip_dispatch_rule", "delete_sip_trunk"]
)
def test_undo_leaves_nothing_after_a_lost_answer(
    runtime: Runtime, sandbox: Sandbox, begin: Begin, lost: str
) -> None:
    claim = submit(runtime, SPEC)
    sandbox.fault(lost, "lost")
    unanswered = []
    for act in (create_dispatch_rule.run, create_dispatch_rule.undo):
        with suppress(LiveKitUnavailable):
            act(begin(claim))
            continue
        unanswered.append(act)
    assert len(unanswered) == 1
    create_dispatch_rule.undo(begin(claim, attempt=2))
    assert (sandbox.inbound, sandbox.rules) == ({}, {})


def test_livekit_is_never_told_to_dial_into_its_own_network(
    runtime: Runtime, sandbox: Sandbox, begin: Begin
) -> None:
    """Also not by a job that was stored before this was refused at submit."""
    spec = replace(SPEC, supports_inbound=False, supports_outbound=True)
    claim = submit(runtime, replace(spec, sip_address="10.0.0.9:5060"))
    with pytest.raises(SipTrunkProvisionFailed, match="private"):
        provision_trunks.run(begin(claim))
    assert sandbox.journal() == []
