from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
from google.protobuf.message import DecodeError
from livekit import api
from yarl import URL

from worker.domain.errors import (
    InternalError,
    LiveKitMisconfigured,
    LiveKitUnavailable,
    SipTrunkProvisionFailed,
    TrunkConflict,
    TrunklineError,
)
from worker.domain.values import E164, ImportTag, MediaEncryption, SipLogin, SipTransport
from worker.livekit import DispatchRule, InboundTrunk, OutboundTrunk, names
from worker.livekit.client import redact, translate
from worker.livekit.specs import inbound_info, outbound_info, rule_info

NUMBER = E164("+14155550100")
LOGIN = SipLogin(username="user", password="planted-password")
CONFLICT = (
    'Conflicting inbound SIP Trunks: "<new>" and "ST_x", using the same number(s) '
    '["+14155550100"] without AllowedNumbers set'
)
RULE_CONFLICT = (
    "Dispatch rule for the same trunk, inbound number, number, and PIN combination already "
    'exists in dispatch rule "SDR_x" "name"'
)


def answer(status: int, code: str = "unknown", message: str = "") -> api.ServerError:
    return api.ServerError(code, message, status=status)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (answer(400, "invalid_argument", CONFLICT), TrunkConflict),
        (answer(400, "invalid_argument", RULE_CONFLICT), TrunkConflict),
        (answer(400, "invalid_argument", "no trunk numbers specified"), SipTrunkProvisionFailed),
        (answer(400, "malformed", "the request could not be decoded"), InternalError),
        (answer(401), LiveKitMisconfigured),
        (answer(401, "unauthenticated", "permissions denied"), LiveKitMisconfigured),
        (answer(403, "permission_denied"), LiveKitMisconfigured),
        (answer(404), LiveKitMisconfigured),
        (answer(404, "bad_route", "no handler for path"), LiveKitMisconfigured),
        (answer(404, "not_found", "object cannot be found"), LiveKitUnavailable),
        (answer(412, "failed_precondition"), InternalError),
        (answer(418), InternalError),
        (answer(500, "internal", "sip not connected (redis required)"), LiveKitMisconfigured),
        (answer(501, "unimplemented"), LiveKitMisconfigured),
        (aiohttp.InvalidURL("nonsense"), LiveKitMisconfigured),
        (ZeroDivisionError(), InternalError),
    ],
)
def test_refusals_have_a_known_outcome(error: Exception, expected: type[TrunklineError]) -> None:
    translated = translate(error, write=True)
    assert isinstance(translated, expected)
    assert not getattr(translated, "outcome_unknown", False)
    assert "415" not in translated.message
    assert pickle.loads(pickle.dumps(translated)).message == translated.message  # noqa: S301


@pytest.mark.parametrize(
    "error",
    [
        answer(204),
        answer(302),
        answer(408, "deadline_exceeded"),
        answer(409, "aborted"),
        answer(500, "internal", "redis: connection refused"),
        answer(502),
        answer(503, "unavailable"),
        TimeoutError(),
        ConnectionResetError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(),
        aiohttp.ClientPayloadError(),
        DecodeError(),
    ],
    ids=lambda error: f"{type(error).__name__}{getattr(error, 'status', '')}",
)
def test_write_without_an_answer_has_an_unknown_outcome(error: Exception) -> None:
    for write in (True, False):
        translated = translate(error, write=write)
        assert isinstance(translated, LiveKitUnavailable)
        assert translated.outcome_unknown is write


def test_refused_connection_is_a_known_outcome() -> None:
    key: Any = URL("http://livekit.example")
    translated = translate(aiohttp.ClientConnectorError(key, OSError(111, "refused")), write=True)
    assert isinstance(translated, LiveKitUnavailable)
    assert not translated.outcome_unknown


def test_rate_limit_carries_the_wait_and_was_not_done() -> None:
    translated = translate(answer(429, "resource_exhausted"), write=True, retry_after=7)
    assert isinstance(translated, LiveKitUnavailable)
    assert (translated.retry_after, translated.outcome_unknown) == (7, False)


def test_strange_error_bodies_do_not_break_the_translation() -> None:
    strange: Any = None
    assert isinstance(
        translate(api.ServerError(strange, strange, status=503), write=False), LiveKitUnavailable
    )


def test_vendor_text_loses_secrets_numbers_and_quoted_values() -> None:
    said = 'bad "name" for +1 415-555-0100, (202) 555-0123, swordfish refused, code 42'
    assert redact(said, {"swordfish", ""}) == "bad … for …, (…, … refused, code 42"


def test_names_carry_the_import_id() -> None:
    made = names(ImportTag(import_id="imp_1"))
    assert (made.inbound, made.outbound, made.rule) == (
        "trunkline:imp_1:inbound",
        "trunkline:imp_1:outbound",
        "trunkline:imp_1:rule",
    )


def inbound(**changes: Any) -> InboundTrunk:
    values: dict[str, Any] = {
        "name": "n",
        "number": NUMBER,
        "login": LOGIN,
        "allowed_addresses": ("203.0.113.0/24",),
        "encryption": MediaEncryption.REQUIRE,
    }
    return InboundTrunk(**{**values, **changes})


def test_inbound_trunk_as_livekit_wants_it() -> None:
    info = inbound_info(inbound(), "imp_1")
    assert (info.name, list(info.numbers)) == ("n", [NUMBER])
    assert list(info.allowed_addresses) == ["203.0.113.0/24"]
    assert (info.auth_username, info.auth_password) == ("user", "planted-password")
    assert info.media.encryption == info.media_encryption == api.SIP_MEDIA_ENCRYPT_REQUIRE
    assert json.loads(info.metadata) == {"trunkline": {"import_id": "imp_1"}}


def test_outbound_trunk_as_livekit_wants_it() -> None:
    spec = OutboundTrunk(
        name="n",
        number=NUMBER,
        address="sip.example.com:5061",
        login=None,
        transport=SipTransport.TLS,
        encryption=MediaEncryption.ALLOW,
        metadata="mine",
    )
    info = outbound_info(spec, "imp_1")
    assert (info.address, info.transport) == ("sip.example.com:5061", api.SIP_TRANSPORT_TLS)
    assert (info.auth_username, info.auth_password, info.metadata) == ("", "", "mine")


@pytest.mark.parametrize("encryption", list(MediaEncryption))
@pytest.mark.parametrize("transport", list(SipTransport))
def test_every_setting_has_a_livekit_name(
    encryption: MediaEncryption, transport: SipTransport
) -> None:
    spec = OutboundTrunk(
        name="n",
        number=NUMBER,
        address="a",
        login=None,
        transport=transport,
        encryption=encryption,
    )
    info = outbound_info(spec, "imp_1")
    assert api.SIPTransport.Name(info.transport) == f"SIP_TRANSPORT_{transport.value.upper()}"
    assert info.media.HasField("encryption")


def rule(**changes: Any) -> DispatchRule:
    values: dict[str, Any] = {
        "name": "n",
        "trunk_id": "ST_1",
        "number": NUMBER,
        "room_prefix": "call-",
        "pin": "4711",
        "agent_name": "receptionist",
        "agent_metadata": "{}",
        "attributes": {"a": "b"},
    }
    return DispatchRule(**{**values, **changes})


def test_rule_as_livekit_wants_it() -> None:
    info = rule_info(rule(), "imp_1")
    assert list(info.trunk_ids) == ["ST_1"]
    assert info.rule.dispatch_rule_individual.room_prefix == "call-"
    assert info.rule.dispatch_rule_individual.pin == "4711"
    [agent] = info.room_config.agents
    assert (agent.agent_name, agent.metadata) == ("receptionist", "{}")
    assert dict(info.attributes) == {"trunkline.import_id": "imp_1", "a": "b"}
    assert not info.numbers
    assert not info.inbound_numbers


def test_rule_without_an_agent_dispatches_none() -> None:
    assert not rule_info(rule(agent_name=None), "imp_1").HasField("room_config")


def test_rule_for_every_trunk_is_a_bug() -> None:
    with pytest.raises(ValueError, match="every trunk"):
        rule_info(rule(trunk_id=""), "imp_1")


@pytest.mark.parametrize("addresses", [(), ("0.0.0.0/0",), ("203.0.113.1", "::/0"), ("carrier",)])
def test_trunk_open_to_anybody_is_a_bug(addresses: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"needs a login|whole internet|not appear to be"):
        inbound(login=None, allowed_addresses=addresses)


def test_repr_of_a_spec_hides_the_password() -> None:
    assert LOGIN.password not in repr(inbound())


def test_importing_the_module_does_not_load_the_sdk() -> None:
    script = "import sys, worker.livekit; sys.exit(bool({'livekit', 'aiohttp'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0  # noqa: S603 -- our own
