"""What the Twilio adapter knows without making a call; the contract suite has the rest."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import requests
from pydantic import ValidationError
from requests.adapters import BaseAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError, InvalidURL
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http.response import Response
from urllib3.connection import HTTPConnection
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError, ProtocolError

from tests.unit.providers.examples import settings
from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InternalError,
    InvalidCredentials,
    NotFound,
    ProviderRateLimited,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    TransientError,
    TrunklineError,
    WebhookSetupFailed,
)
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import (
    E164,
    NOWHERE,
    CallbackUrls,
    Fields,
    ImportTag,
    OwnedNumber,
    Routing,
    RoutingMode,
    Target,
)
from worker.providers._twilio_credentials import TwilioCredentials
from worker.providers._twilio_numbers import PARTS
from worker.providers._twilio_trunks import trunk_domain
from worker.providers._twilio_wire import ERRORS, facts, translate
from worker.providers.twilio import Twilio

ACCOUNT = "AC" + "0" * 31 + "1"
PARENT = "AC" + "0" * 31 + "2"
KEY = "SK" + "0" * 31 + "1"
TOKEN = {"account_sid": ACCOUNT, "auth_token": "planted-token"}
API_KEY = {"account_sid": ACCOUNT, "api_key_sid": KEY, "api_key_secret": "planted-secret"}
URLS = CallbackUrls(
    voice="https://voice.example.com/voice",
    status="https://voice.example.com/status",
    sms="https://voice.example.com/sms",
    dialed="https://dialed.example.com/dialed",
    recording="https://recording.example.com/recording",
)


def adapter(**fields: str) -> Twilio:
    attempt = Attempt(
        import_id="imp_1", step=StepName.ROUTE_NUMBER, number=1, lease=Lease(seconds=60)
    )
    return Twilio.connect(TwilioCredentials.model_validate(fields), settings(), attempt)


def rest_error(status: int, code: int | None = None) -> TwilioRestException:
    return TwilioRestException(status, "/2010-04-01/Accounts", "planted message", code or status)


def list_error(status: int, body: str) -> TwilioException:
    return TwilioException("Unable to fetch page", Response(status, body, {}))


def service_error(status: object, code: object) -> TwilioServiceException:
    return TwilioServiceException("about:blank", "planted title", status, code)


def never_connected(reason: type[NewConnectionError]) -> requests.ConnectionError:
    connection = HTTPConnection("api.example.com")
    cause = (
        NameResolutionError("api.example.com", connection, OSError())  # type: ignore[arg-type]
        if reason is NameResolutionError
        else reason(connection, "refused")
    )
    return requests.ConnectionError(MaxRetryError(None, "/", cause))  # type: ignore[arg-type]


# --- translate --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (rest_error(401, 20003), InvalidCredentials),
        (rest_error(401), InvalidCredentials),
        (rest_error(401, 20005), AccountSuspended),
        (rest_error(403, 20005), AccountSuspended),
        (rest_error(400, 10001), AccountSuspended),
        (rest_error(401, 90010), AccountSuspended),
        (rest_error(401, 70051), InsufficientPermission),
        (rest_error(403, 20403), InsufficientPermission),
        (rest_error(403, 20003), InsufficientPermission),
        (rest_error(403, 20008), InvalidCredentials),
        (rest_error(403, 10002), InsufficientPermission),
        (rest_error(400, 21244), SipTrunkProvisionFailed),
        (rest_error(400, 21239), SipTrunkProvisionFailed),
        (rest_error(429, 20429), ProviderRateLimited),
        (rest_error(429), ProviderRateLimited),
        (rest_error(404, 20404), NotFound),
        (rest_error(404), ProviderUnavailable),
        (rest_error(400, 21402), WebhookSetupFailed),
        (rest_error(409, 20409), WebhookSetupFailed),
        (rest_error(405, 20004), WebhookSetupFailed),
        (rest_error(408), ProviderUnavailable),
        (rest_error(500, 20500), ProviderUnavailable),
        (rest_error(503), ProviderUnavailable),
        (rest_error(302), ProviderUnavailable),
        (list_error(401, '{"code": 20003, "status": 401}'), InvalidCredentials),
        (list_error(401, '{"code": 70051, "status": 401}'), InsufficientPermission),
        (list_error(404, '{"code": 20404}'), NotFound),
        (list_error(404, "<html>"), ProviderUnavailable),
        (list_error(403, '["no object"]'), InsufficientPermission),
        (list_error(400, '{"code": 21481}'), ProviderUnavailable),
        (list_error(400, '{"code": "21481"}'), WebhookSetupFailed),
        (list_error(503, "<html>"), ProviderUnavailable),
        (list_error(204, ""), ProviderUnavailable),
        (service_error(429, 20429), ProviderRateLimited),
        (service_error(404, 20404), NotFound),
        (service_error("no number", None), InternalError),
        (requests.ConnectTimeout("planted"), ProviderUnavailable),
        (requests.ReadTimeout("planted"), ProviderUnavailable),
        (requests.ConnectionError(ProtocolError("aborted")), ProviderUnavailable),
        (never_connected(NewConnectionError), ProviderUnavailable),
        (never_connected(NameResolutionError), ProviderUnavailable),
        (requests.exceptions.SSLError("planted"), ProviderUnavailable),
        (ChunkedEncodingError("planted"), ProviderUnavailable),
        (ContentDecodingError("planted"), ProviderUnavailable),
        (InvalidURL("planted"), InternalError),
        (json.JSONDecodeError("Expecting value", "<html>planted", 0), ProviderUnavailable),
        (AttributeError("'NoneType' object has no attribute 'get'"), ProviderUnavailable),
        (KeyError("trunks"), ProviderUnavailable),
        (TwilioException("Page Records can not be deserialized"), ProviderUnavailable),
        (TwilioException("Credentials are required"), InternalError),
        (RuntimeError("planted"), InternalError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else repr(value)[:60],
)
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_every_failure_has_a_name(
    exc: Exception, expected: type[TrunklineError], *, write: bool
) -> None:
    error = translate(exc, write=write, refused=WebhookSetupFailed, missing=NotFound)

    assert type(error) is expected
    assert "planted" not in f"{error} {error!r} {error.message}"
    assert type(pickle.loads(pickle.dumps(error))) is expected  # noqa: S301 -- our own


@pytest.mark.parametrize(
    ("exc", "unknown"),
    [
        (rest_error(500), True),
        (rest_error(503), True),
        (rest_error(408), True),
        (rest_error(404), True),
        (list_error(502, ""), True),
        (requests.ReadTimeout(), True),
        (requests.ConnectionError(ProtocolError("aborted")), True),
        (ChunkedEncodingError(), True),
        (json.JSONDecodeError("Expecting value", "", 0), True),
        (requests.ConnectTimeout(), False),
        (never_connected(NewConnectionError), False),
        (never_connected(NameResolutionError), False),
        (rest_error(429), False),
    ],
    ids=repr,
)
def test_only_a_write_that_may_have_been_heard_has_an_unknown_outcome(
    exc: Exception, *, unknown: bool
) -> None:
    read, write = translate(exc, write=False), translate(exc, write=True)

    assert isinstance(read, TransientError)
    assert isinstance(write, TransientError)
    assert (read.outcome_unknown, write.outcome_unknown) == (False, unknown)


@pytest.mark.parametrize("exc", [rest_error(429), rest_error(503), list_error(429, "{}")], ids=repr)
def test_the_vendors_wait_is_passed_on(exc: Exception) -> None:
    error = translate(exc, write=False, retry_after=7.0)

    assert isinstance(error, TransientError)
    assert error.retry_after == 7.0


def test_without_a_context_a_refusal_is_a_bug() -> None:
    assert type(translate(rest_error(400, 21402), write=True)) is InternalError
    assert type(translate(rest_error(404, 20404), write=False)) is InternalError


def test_every_row_of_the_table_is_used() -> None:
    for key, (kind, _) in ERRORS.items():
        exc = rest_error(key) if key < 600 else rest_error(400, key)
        assert type(translate(exc, write=False)) is kind


def test_facts_of_an_exception_that_is_not_the_vendors() -> None:
    assert facts(RuntimeError()) == (None, None)


# --- credentials ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "verifies"),
    [
        (TOKEN, True),
        (API_KEY, False),
        (API_KEY | TOKEN, True),
        (TOKEN | {"parent_account_sid": PARENT}, False),
        (TOKEN | {"account_sid": "AC" + "aF" * 16}, True),
    ],
)
def test_credentials_that_belong_together(fields: dict[str, str], *, verifies: bool) -> None:
    credentials = TwilioCredentials.model_validate(fields)

    assert credentials.can_verify_webhooks is verifies
    assert credentials.account_ref == fields["account_sid"]
    assert credentials.reveal() == fields
    assert TwilioCredentials.model_validate(credentials.reveal()) == credentials
    assert "planted" not in repr(credentials)


def test_the_key_makes_the_calls_where_there_is_a_key() -> None:
    assert TwilioCredentials.model_validate(API_KEY | TOKEN).login == (KEY, "planted-secret")
    assert TwilioCredentials.model_validate(TOKEN).login == (ACCOUNT, "planted-token")
    with_parent = TwilioCredentials.model_validate(TOKEN | {"parent_account_sid": PARENT})
    assert with_parent.login == (PARENT, "planted-token")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"account_sid": ACCOUNT}, "give auth_token, or api_key_sid and api_key_secret"),
        (TOKEN | {"api_key_sid": KEY}, "belong together"),
        (TOKEN | {"api_key_secret": "planted"}, "belong together"),
        (API_KEY | {"parent_account_sid": PARENT}, "no API key"),
        (API_KEY | TOKEN | {"parent_account_sid": PARENT}, "no API key"),
        (TOKEN | {"parent_account_sid": ACCOUNT}, "must be the subaccount"),
        (TOKEN | {"account_sid": KEY}, "must be AC followed by 32 hexadecimal digits"),
        (TOKEN | {"account_sid": ACCOUNT[:-1]}, "must be AC followed by"),
        (TOKEN | {"account_sid": ACCOUNT + "0"}, "must be AC followed by"),
        (TOKEN | {"account_sid": ACCOUNT + "\n"}, "must not contain spaces"),
        (TOKEN | {"account_sid": "AC" + "g" * 32}, "must be AC followed by"),
        (TOKEN | {"account_sid": "AC" + "٣" * 32}, "special characters"),
        (API_KEY | {"api_key_sid": ACCOUNT}, "must be SK followed by"),
        (TOKEN | {"parent_account_sid": KEY}, "must be AC followed by"),
        (TOKEN | {"auth_token": ""}, "must not be empty"),
        (TOKEN | {"auth_token": " planted"}, "must not contain spaces"),
        (TOKEN | {"auth_token": "planted\n"}, "must not contain spaces"),
        (TOKEN | {"auth_token": "planted planted"}, "must not contain spaces"),
        (TOKEN | {"auth_token": "plantéd"}, "special characters"),
        (API_KEY | {"api_key_secret": ""}, "must not be empty"),
        (API_KEY | {"api_key_secret": "\tplanted"}, "must not contain spaces"),
        (TOKEN | {"account_sid": ""}, "must not be empty"),
        (TOKEN | {"token": "planted"}, "Extra inputs"),
    ],
)
def test_bad_credentials_are_refused_without_being_shown(fields: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)) as caught:
        TwilioCredentials.model_validate(fields)

    shown = f"{caught.value} {caught.value!r} {caught.value.errors(include_input=False)}"
    assert "plant" not in shown


# --- routing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "fields", "expected"),
    [
        ("voice", {}, NOWHERE),
        (
            "voice",
            {"voice_url": "https://a.example/x"},
            Target(kind="url", value="https://a.example/x"),
        ),
        ("voice", {"voice_url": "https://demo.twilio.com/welcome/voice/"}, NOWHERE),
        ("voice", {"voice_url": "http://demo.twilio.com/docs/voice.xml"}, NOWHERE),
        (
            "voice",
            {"voice_url": "https://demo.twilio.com.evil.example/"},
            Target(kind="url", value="https://demo.twilio.com.evil.example/"),
        ),
        (
            "voice",
            {"voice_url": "https://demo.twilio.com/x", "voice_application_sid": "AP1"},
            Target(kind="application", value="AP1"),
        ),
        (
            "voice",
            {
                "voice_url": "https://a.example/x",
                "voice_application_sid": "AP1",
                "trunk_sid": "TK1",
            },
            Target(kind="trunk", value="TK1"),
        ),
        ("voice", {"voice_fallback_url": "https://a.example/x", "voice_method": "GET"}, NOWHERE),
        ("sms", {"sms_url": "https://demo.twilio.com/welcome/sms/reply/"}, NOWHERE),
        (
            "sms",
            {"sms_url": "https://a.example/x"},
            Target(kind="url", value="https://a.example/x"),
        ),
        (
            "sms",
            {"sms_url": "https://a.example/x", "sms_application_sid": "AP1"},
            Target(kind="application", value="AP1"),
        ),
        ("status", {"status_callback": ""}, NOWHERE),
        (
            "status",
            {"status_callback": "https://a.example/x"},
            Target(kind="url", value="https://a.example/x"),
        ),
    ],
)
def test_target(part: str, fields: Fields, expected: Target) -> None:
    assert adapter(**TOKEN).target(part, fields) == expected


@pytest.mark.parametrize(
    ("fields", "sms", "expected"),
    [
        (TOKEN, False, {"status": URLS.status}),
        (TOKEN, True, {"status": URLS.status, "sms": URLS.sms}),
        (API_KEY | TOKEN, True, {"status": URLS.status, "sms": URLS.sms}),
        (API_KEY, True, {}),
        (TOKEN | {"parent_account_sid": PARENT}, True, {}),
    ],
)
def test_planned_webhooks_lead_to_us_where_signatures_can_be_checked(
    fields: dict[str, str], expected: dict[str, str], *, sms: bool
) -> None:
    twilio = adapter(**fields)

    plan = twilio.plan_webhooks(URLS, {}, sms=sms)

    targets = {part: twilio.target(part, values) for part, values in plan.items()}
    assert targets == {part: Target(kind="url", value=url) for part, url in expected.items()}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (RoutingMode.WEBHOOK, Target(kind="url", value=URLS.voice)),
        (RoutingMode.SIP_TRUNK, Target(kind="trunk", value="TK1")),
    ],
)
def test_planned_voice_leads_to_us(mode: RoutingMode, expected: Target) -> None:
    twilio = adapter(**TOKEN)

    assert twilio.target("voice", twilio.plan_voice(mode, URLS, {"trunk": "TK1"})) == expected


def test_no_fallback_of_the_customers_answers_for_us() -> None:
    twilio = adapter(**TOKEN)

    voice = twilio.plan_voice(RoutingMode.WEBHOOK, URLS, {})
    webhooks = twilio.plan_webhooks(URLS, {}, sms=True)

    assert voice["voice_fallback_url"] == webhooks["sms"]["sms_fallback_url"] == ""


def test_a_plan_clears_whatever_could_win_over_it() -> None:
    twilio = adapter(**TOKEN)
    plans = [
        *twilio.plan_webhooks(URLS, {}, sms=True).items(),
        *(("voice", twilio.plan_voice(mode, URLS, {"trunk": "TK1"})) for mode in RoutingMode),
    ]

    for part, values in plans:
        taken = dict.fromkeys(PARTS[part], "AP1")
        assert twilio.target(part, taken | dict(values)) == twilio.target(part, values)


def test_an_unknown_field_is_a_bug_and_is_not_sent() -> None:
    with pytest.raises(AssertionError, match="no such fields"):
        adapter(**TOKEN).write_routing("PN1", {"voice_uri": "https://a.example/x"})


# --- trunk ------------------------------------------------------------------------------------


def test_a_trunk_domain_is_a_valid_label_and_depends_on_the_import_only() -> None:
    domain = trunk_domain("imp_1")

    assert re.fullmatch(r"tl-[0-9a-f]{20}\.pstn\.twilio\.com", domain)
    assert trunk_domain("imp_1") == domain
    assert trunk_domain("imp_2") != domain


def test_the_environment_lends_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    planted: dict[str, Any] = {
        "TWILIO_ACCOUNT_SID": PARENT,
        "TWILIO_AUTH_TOKEN": "planted",
        "TWILIO_REGION": "ie1",
        "TWILIO_EDGE": "dublin",
        "HTTPS_PROXY": "http://proxy.example:3128",
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)

    twilio = adapter(**API_KEY)

    assert twilio._client.auth == (KEY, "planted-secret")
    assert (twilio._client.region, twilio._client.edge) == (None, None)
    assert twilio._client.account_sid == ACCOUNT
    merged = twilio._http.session.merge_environment_settings(
        "https://api.twilio.com", {}, None, None, None
    )
    assert not merged["proxies"]


# --- answers that no sandbox gives ------------------------------------------------------------


class Canned(BaseAdapter):
    """Answers every request with the same document."""

    def __init__(self, document: object) -> None:
        super().__init__()
        self._document = document

    def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:  # type: ignore[override]
        answer = requests.Response()
        answer.status_code = 201 if request.method == "POST" else 200
        answer._content = json.dumps(self._document).encode()
        answer.request = request
        return answer

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("call", "document"),
    [
        ("read_routing", {}),
        ("read_routing", {"sid": "PN" + "0" * 31 + "2"}),
        ("read_routing", []),
        ("read_routing", None),
        ("read_routing", "nonsense"),
        ("verify_credentials", {"status": "active"}),
        ("verify_credentials", {"status": "active", "sid": PARENT}),
        ("find_number", {"incoming_phone_numbers": None}),
        ("find_number", {"incoming_phone_numbers": [None]}),
        ("find_number", {"first": [], "second": []}),
        ("find_number", {}),
        ("find_number", []),
        ("list_numbers", {}),
        ("list_numbers", {"incoming_phone_numbers": [None]}),
        ("list_numbers", {"incoming_phone_numbers": [{"phone_number": "+14155550100"}]}),
        ("list_numbers", {"incoming_phone_numbers": [], "next_page_uri": "/numbers?Page=1"}),
        ("answer_url", {}),
        ("answer_url", {"sid": "AP" + "0" * 31 + "2"}),
        ("read_objects", {}),
    ],
)
def test_an_answer_without_sense_is_no_answer(call: str, document: object) -> None:
    twilio = adapter(**TOKEN)
    twilio._http.session.mount("https://", Canned(document))
    calls: dict[str, Callable[[], object]] = {
        "read_routing": lambda: twilio.read_routing("PN" + "0" * 31 + "1"),
        "verify_credentials": lambda: twilio.verify_credentials(RoutingMode.WEBHOOK),
        "find_number": lambda: twilio.find_number(E164("+14155550100"), None),
        "list_numbers": lambda: twilio.list_numbers(None, limit=10),
        "answer_url": lambda: twilio.answer_url({"voice_application_sid": "AP" + "0" * 31 + "1"}),
        "read_objects": lambda: twilio.read_objects(ImportTag(import_id="imp_1"), {"trunk": "TK1"}),
    }

    with pytest.raises(ProviderUnavailable) as caught:
        calls[call]()

    assert not caught.value.outcome_unknown


def test_the_vendors_own_hosts_are_the_default() -> None:
    twilio = adapter(**TOKEN)
    asked: list[str] = []

    class Listening(Canned):
        def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:  # type: ignore[override]
            asked.append(str(request.url))
            return super().send(request)

    document = {"sid": ACCOUNT, "status": "active", "trunks": [], "meta": {"key": "trunks"}}
    twilio._http.session.mount("https://", Listening(document))
    twilio.verify_credentials(RoutingMode.WEBHOOK)
    twilio.remove_trunk(ImportTag(import_id="imp_1"), {})

    assert asked[0] == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}.json"
    assert asked[1] == "https://trunking.twilio.com/v1/Trunks?PageSize=1000"
    assert asked[2].startswith(f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/SIP/")


def test_a_url_without_a_priority_is_no_answer() -> None:
    twilio = adapter(**TOKEN)
    row = {"sid": "OU1", "enabled": True, "priority": None}
    document = {"sid": "TK1", "secure": False, "urls": [row, row], "meta": {"key": "urls"}}
    twilio._http.session.mount("https://", Canned(document))

    with pytest.raises(ProviderUnavailable):
        twilio.read_objects(ImportTag(import_id="imp_1"), {"trunk": "TK1", "origination": "OU1"})


def test_a_preflight_asks_the_vendors_own_hosts_by_default() -> None:
    twilio = adapter(**TOKEN)
    sid = "PN" + "0" * 31 + "1"
    bundle = "BU" + "0" * 31 + "1"
    documents = {
        "api.twilio.com": {"sid": sid, "bundle_sid": bundle},
        "numbers.twilio.com": {"sid": bundle, "status": "draft"},
        "messaging.twilio.com": {"services": [], "meta": {"key": "services"}},
        "routes.twilio.com": {"phone_number": "+14155550100", "voice_region": "us1"},
    }
    asked: list[str] = []

    class Listening(Canned):
        def send(self, request: requests.PreparedRequest, **_: object) -> requests.Response:  # type: ignore[override]
            asked.append(str(request.url))
            self._document = documents[asked[-1].split("/")[2]]
            return super().send(request)

    twilio._http.session.mount("https://", Listening({}))
    number = OwnedNumber(
        id=sid,
        e164=E164("+14155550100"),
        country="US",
        voice=True,
        sms=True,
        routing=Routing(parts={}),
    )
    [sentence] = twilio.advise(number, sms=True)

    assert "not been submitted" in sentence
    assert asked == [
        f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers/{sid}.json",
        f"https://numbers.twilio.com/v2/RegulatoryCompliance/Bundles/{bundle}",
        "https://routes.twilio.com/v2/PhoneNumbers/+14155550100",
        "https://messaging.twilio.com/v1/Services?PageSize=1000",
    ]


def test_capabilities_may_be_spelt_in_capitals() -> None:
    twilio = adapter(**TOKEN)
    row = {
        "sid": "PN" + "0" * 31 + "1",
        "phone_number": "+14155550100",
        "capabilities": {"Voice": True, "SMS": True, "MMS": False},
    }
    twilio._http.session.mount("https://", Canned({"incoming_phone_numbers": [row]}))

    found = twilio.find_number(E164("+14155550100"), None)

    assert (found.voice, found.sms, found.country) == (True, True, "US")


def test_accounts_share_connections_and_nothing_else() -> None:
    one, two = adapter(**TOKEN), adapter(**API_KEY)

    for scheme in ("https://", "http://"):
        assert one._http.session.get_adapter(scheme) is two._http.session.get_adapter(scheme)
    assert one._http.session.cookies is not two._http.session.cookies
    assert one._http.session.auth is two._http.session.auth is None
