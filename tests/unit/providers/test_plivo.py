"""What the Plivo adapter knows without making a call; the contract suite has the rest."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import requests
from plivo.exceptions import AuthenticationError
from plivo.exceptions import ValidationError as PlivoValidationError
from pydantic import ValidationError
from requests.adapters import BaseAdapter
from requests.exceptions import ChunkedEncodingError, InvalidURL
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from tests.unit.providers.examples import settings
from worker.domain.errors import (
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    NotFound,
    ProviderRateLimited,
    ProviderUnavailable,
    TransientError,
    TrunklineError,
    UndoFailed,
    WebhookSetupFailed,
)
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import (
    E164,
    NOWHERE,
    CallbackUrls,
    Fields,
    ImportTag,
    RoutingMode,
    Target,
)
from worker.providers import _plivo_wire as wire
from worker.providers._plivo_credentials import PlivoCredentials
from worker.providers._plivo_wire import ERRORS, Refused, translate
from worker.providers.plivo import Plivo

MAIN = "MA" + "0" * 17 + "1"
SUB = "SA" + "0" * 17 + "2"
LOGIN = {"auth_id": MAIN, "auth_token": "planted-token"}
URLS = CallbackUrls(
    voice="https://voice.example.com/voice",
    status="https://voice.example.com/status",
    sms="https://voice.example.com/sms",
    dialed="https://dialed.example.com/dialed",
    recording="https://recording.example.com/recording",
)
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TAG = ImportTag(import_id="imp_1")
DIGITS = "14155550100"


def adapter(**changes: object) -> Plivo:
    attempt = Attempt(
        import_id="imp_1", step=StepName.ROUTE_NUMBER, number=1, lease=Lease(seconds=60)
    )
    return Plivo.connect(PlivoCredentials.model_validate(LOGIN), settings(**changes), attempt)


def answer(status: int, body: str = "", **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made._content = body.encode()
    made.headers.update(headers)
    return made


def refused(
    status: int, body: str = '{"api_id": "1", "error": "planted"}', **headers: str
) -> Refused:
    return Refused(answer(status, body, **headers))


def never_connected() -> requests.ConnectionError:
    cause = NewConnectionError(HTTPConnection("api.example.com"), "refused")
    return requests.ConnectionError(MaxRetryError(None, "/", cause))  # type: ignore[arg-type]


# --- translate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (refused(401, "planted, in plain text"), InvalidCredentials),
        (refused(403), InsufficientPermission),
        (refused(404), NotFound),
        (refused(404, "<html>planted"), ProviderUnavailable),
        (refused(404, "[]"), ProviderUnavailable),
        (refused(400), WebhookSetupFailed),
        (refused(405), WebhookSetupFailed),
        (refused(409), WebhookSetupFailed),
        (refused(422, "<html>planted"), WebhookSetupFailed),
        (refused(408), ProviderUnavailable),
        (refused(429), ProviderRateLimited),
        (refused(302, ""), ProviderUnavailable),
        (refused(500), ProviderUnavailable),
        (refused(503, ""), ProviderUnavailable),
        (requests.ConnectTimeout("planted"), ProviderUnavailable),
        (requests.ReadTimeout("planted"), ProviderUnavailable),
        (requests.ConnectionError(ProtocolError("aborted")), ProviderUnavailable),
        (never_connected(), ProviderUnavailable),
        (ChunkedEncodingError("planted"), ProviderUnavailable),
        (InvalidURL("planted"), InternalError),
        (json.JSONDecodeError("Expecting value", "<html>planted", 0), ProviderUnavailable),
        (AttributeError("'NoneType' object has no attribute 'app_id'"), ProviderUnavailable),
        (PlivoValidationError(["planted is no URL"]), WebhookSetupFailed),
        (AuthenticationError("Invalid auth_id supplied: planted"), InternalError),
        (RuntimeError("planted"), InternalError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else repr(value)[:60],
)
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_every_failure_has_a_name(
    exc: Exception, expected: type[TrunklineError], *, write: bool
) -> None:
    error = translate(exc, write=write, now=NOW, refused=WebhookSetupFailed, missing=NotFound)

    assert type(error) is expected
    assert "planted" not in f"{error} {error!r} {error.message}"
    assert type(pickle.loads(pickle.dumps(error))) is expected  # noqa: S301 -- our own


@pytest.mark.parametrize(
    ("exc", "unknown"),
    [
        (refused(500), True),
        (refused(503), True),
        (refused(408), True),
        (refused(404, "<html>"), True),
        (requests.ReadTimeout(), True),
        (requests.ConnectionError(ProtocolError("aborted")), True),
        (ChunkedEncodingError(), True),
        (json.JSONDecodeError("Expecting value", "", 0), True),
        (requests.ConnectTimeout(), False),
        (never_connected(), False),
        (refused(429), False),
    ],
    ids=repr,
)
def test_only_a_write_that_may_have_been_heard_has_an_unknown_outcome(
    exc: Exception, *, unknown: bool
) -> None:
    read, write = translate(exc, write=False, now=NOW), translate(exc, write=True, now=NOW)

    assert isinstance(read, TransientError)
    assert isinstance(write, TransientError)
    assert (read.outcome_unknown, write.outcome_unknown) == (False, unknown)


@pytest.mark.parametrize("status", [429, 503])
def test_the_vendors_wait_is_passed_on(status: int) -> None:
    error = translate(refused(status, **{"Retry-After": "7"}), write=False, now=NOW)

    assert isinstance(error, TransientError)
    assert error.retry_after == 7.0


def test_without_a_context_a_refusal_is_a_bug() -> None:
    assert type(translate(refused(400), write=True, now=NOW)) is InternalError
    assert type(translate(refused(404), write=False, now=NOW)) is InternalError


def test_every_row_of_the_table_is_used() -> None:
    for status, kind in ERRORS.items():
        assert type(translate(refused(status), write=False, now=NOW)) is kind


# --- credentials ------------------------------------------------------------------------------


@pytest.mark.parametrize("auth_id", [MAIN, SUB])
def test_credentials(auth_id: str) -> None:
    fields = LOGIN | {"auth_id": auth_id}
    credentials = PlivoCredentials.model_validate(fields)

    assert credentials.can_verify_webhooks
    assert credentials.account_ref == auth_id
    assert credentials.reveal() == fields
    assert PlivoCredentials.model_validate(credentials.reveal()) == credentials
    assert "planted" not in repr(credentials)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"auth_id": MAIN}, "Field required"),
        ({"auth_token": "planted"}, "Field required"),
        (LOGIN | {"auth_id": MAIN[:-1]}, "must be MA or SA"),
        (LOGIN | {"auth_id": MAIN + "0"}, "must be MA or SA"),
        (LOGIN | {"auth_id": MAIN + "\n"}, "must be MA or SA"),
        (LOGIN | {"auth_id": " " + MAIN}, "must be MA or SA"),
        (LOGIN | {"auth_id": MAIN.lower()}, "must be MA or SA"),
        (LOGIN | {"auth_id": "AC" + MAIN[2:]}, "must be MA or SA"),
        (LOGIN | {"auth_id": "MA" + "٣" * 18}, "must be MA or SA"),
        (LOGIN | {"auth_id": ""}, "must be MA or SA"),
        (LOGIN | {"auth_token": ""}, "must be one word"),
        (LOGIN | {"auth_token": " planted"}, "must be one word"),
        (LOGIN | {"auth_token": "planted\n"}, "must be one word"),
        (LOGIN | {"auth_token": "planted planted"}, "must be one word"),
        (LOGIN | {"auth_token": "plantéd"}, "must be one word"),
        (LOGIN | {"token": "planted"}, "Extra inputs"),
    ],
)
def test_bad_credentials_are_refused_without_being_shown(fields: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)) as caught:
        PlivoCredentials.model_validate(fields)

    shown = f"{caught.value} {caught.value!r} {caught.value.errors(include_input=False)}"
    assert "plant" not in shown


def test_the_environment_lends_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLIVO_AUTH_ID", SUB)
    monkeypatch.setenv("PLIVO_AUTH_TOKEN", "planted")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")

    session = adapter()._client.session

    assert tuple(session.auth) == (MAIN, "planted-token")
    merged = session.merge_environment_settings("https://api.plivo.com", {}, None, None, None)
    assert not merged["proxies"]


# --- routing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "fields", "expected"),
    [
        ("voice", {"app_id": "17"}, Target(kind="application", value="17")),
        ("voice", {"app_id": ""}, NOWHERE),
        ("voice", {}, NOWHERE),
        ("sms", {}, NOWHERE),
        ("status", {}, NOWHERE),
    ],
)
def test_target(part: str, fields: Fields, expected: Target) -> None:
    assert adapter().target(part, fields) == expected


@pytest.mark.parametrize(
    ("mode", "objects", "expected"),
    [
        (RoutingMode.WEBHOOK, {"application": "1", "inbound_trunk": "2"}, "1"),
        (RoutingMode.SIP_TRUNK, {"application": "1", "inbound_trunk": "2"}, "2"),
        (RoutingMode.WEBHOOK, {}, ""),
        (RoutingMode.SIP_TRUNK, {}, ""),
    ],
)
def test_planned_voice_is_one_field(
    mode: RoutingMode, objects: dict[str, str], expected: str
) -> None:
    assert adapter().plan_voice(mode, URLS, objects) == {"app_id": expected}


@pytest.mark.parametrize("sms", [False, True])
def test_the_number_itself_carries_no_webhooks(*, sms: bool) -> None:
    assert adapter().plan_webhooks(URLS, {"application": "1"}, sms=sms) == {}


@pytest.mark.parametrize("fields", [{}, {"alias": "x"}, {"app_id": "1", "alias": "x"}])
def test_an_unknown_field_or_no_application_is_a_bug_and_is_not_sent(fields: Fields) -> None:
    with pytest.raises(AssertionError, match="no such fields"):
        adapter().write_routing(DIGITS, fields)


def test_no_application_is_not_guessed_at() -> None:
    with pytest.raises(UndoFailed, match="no application"):
        adapter().write_routing(DIGITS, {"app_id": ""})


@pytest.mark.parametrize("sms", [False, True])
@pytest.mark.parametrize("mode", RoutingMode)
def test_what_becomes_of_sms_is_said_beforehand(mode: RoutingMode, *, sms: bool) -> None:
    (note,) = Plivo.notes(mode, sms=sms)

    assert "SMS" in note
    assert ("lost" in note) is (mode is RoutingMode.SIP_TRUNK)


def test_every_call_logs_in_so_that_no_address_has_to_be_admitted() -> None:
    assert Plivo.authenticating_modes == Plivo.modes
    assert adapter().signalling_addresses() == ()


# --- answers that no sandbox gives ------------------------------------------------------------


class Canned(BaseAdapter):
    """Stands in for the network: answers everything in the same way, and keeps what was asked."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__()
        self._status, self._body = status, body
        self.asked: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:  # type: ignore[override]
        self.asked.append(request)
        made = answer(self._status, self._body, Location="https://elsewhere.example/")
        made.request, made.url = request, str(request.url)
        return made

    def close(self) -> None:
        pass


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], Canned]:
    def stand_in(status: int, body: str) -> Canned:
        made = Canned(status, body)
        monkeypatch.setattr(wire, "connections", lambda _: made)
        return made

    return stand_in


CALLS: dict[str, Callable[[Plivo], object]] = {
    "verify_credentials": lambda plivo: plivo.verify_credentials(RoutingMode.WEBHOOK),
    "find_number": lambda plivo: plivo.find_number(E164("+14155550100"), None),
    "remove_trunk": lambda plivo: plivo.remove_trunk(TAG, {}),
}


@pytest.mark.parametrize(
    ("call", "document"),
    [
        ("verify_credentials", {}),
        ("verify_credentials", []),
        ("verify_credentials", None),
        ("verify_credentials", {"auth_id": SUB}),
        ("find_number", {}),
        ("find_number", {"number": "14155550199"}),
        ("find_number", {"number": DIGITS}),
        ("find_number", "nonsense"),
        ("remove_trunk", {"objects": []}),
        ("remove_trunk", {"objects": None, "meta": {"next": None}}),
        ("remove_trunk", {"objects": [None], "meta": {"next": None}}),
        ("remove_trunk", {"objects": [{"name": TAG.name}], "meta": {"next": None}}),
    ],
)
def test_an_answer_without_sense_is_no_answer(
    canned: Callable[[int, str], Canned], call: str, document: object
) -> None:
    canned(200, json.dumps(document))

    with pytest.raises(ProviderUnavailable) as caught:
        CALLS[call](adapter())

    assert not caught.value.outcome_unknown


def test_a_redirect_is_not_followed(canned: Callable[[int, str], Canned]) -> None:
    network = canned(302, "")

    with pytest.raises(ProviderUnavailable):
        adapter().write_routing(DIGITS, {"app_id": "1"})

    assert len(network.asked) == 1


def test_a_list_that_never_ends_ends(canned: Callable[[int, str], Canned]) -> None:
    row = {"uri_uuid": "1", "trunk_id": "2", "credential_uuid": "3", "name": "x"}
    canned(200, json.dumps({"objects": [row], "meta": {"next": "v1/x/?limit=20&cursor=abc"}}))

    adapter().remove_trunk(TAG, {})


def test_the_next_page_is_asked_for_as_the_vendor_says(
    canned: Callable[[int, str], Canned],
) -> None:
    row = {"app_id": "1", "app_name": "x"}
    network = canned(200, json.dumps({"objects": [row], "meta": {"next": "/v1/x/?cursor=abc"}}))

    adapter().remove_application(TAG, {})

    queries = [str(request.url).partition("?")[2] for request in network.asked]
    assert queries == [
        f"app_name={TAG.name}&limit=20&offset=0",
        f"app_name={TAG.name}&limit=20&cursor=abc",
    ]


@pytest.mark.parametrize("base", [None, "http://127.0.0.1:9/plivo"])
def test_the_vendors_own_host_is_the_default(
    canned: Callable[[int, str], Canned], base: str | None
) -> None:
    network = canned(200, json.dumps({"auth_id": MAIN}))

    adapter(PLIVO_API_BASE_URL=base).verify_credentials(RoutingMode.WEBHOOK)

    (request,) = network.asked
    assert request.url == f"{base or 'https://api.plivo.com'}/v1/Account/{MAIN}/"
    assert request.headers["X-Trunkline-Attempt"] == "imp_1/route_number/1"
