"""Which requests are Plivo's; what they say and how we answer is in the unit tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import plivo.utils
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plivo.utils.signature_v3 import construct_post_url, get_signature_v3

from tests.contract.providers.cases.plivo import CASE, SUBACCOUNT, SUBACCOUNT_TOKEN, TOKEN
from tests.contract.providers.world import URLS
from worker.domain.calls import CallbackRequest
from worker.providers import PROVIDERS
from worker.providers._core import Credentials
from worker.providers._plivo_webhooks import PlivoWebhooks, _v2

FORM = "application/x-www-form-urlencoded"
_webhooks = PROVIDERS[CASE.name].webhooks
assert isinstance(_webhooks, PlivoWebhooks)
WEBHOOKS: PlivoWebhooks = _webhooks

CALL = {"CallUUID": "call-1", "CallStatus": "completed", "From": "14155550111", "Duration": "42"}
MESSAGE = {"MessageUUID": "message-1", "From": "14155550111", "Text": "hi"}


def credentials(fields: Mapping[str, str] = CASE.good) -> Credentials:
    return PROVIDERS[CASE.name].credentials_model.model_validate(dict(fields))


SUB = credentials({"auth_id": SUBACCOUNT, "auth_token": SUBACCOUNT_TOKEN})


def request(
    form: object = CALL,
    *,
    url: str = URLS.status,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
    kind: str = FORM,
) -> CallbackRequest:
    body = form if isinstance(form, bytes) else urlencode(form).encode()  # type: ignore[arg-type]
    return CallbackRequest(
        method=method, url=url, body=body, headers={"content-type": kind, **(headers or {})}
    )


def signed(form: object = CALL, *, by: Credentials | None = None, **rest: Any) -> CallbackRequest:
    headers = WEBHOOKS.sign(by or credentials(), request(form, **rest))
    return request(form, headers=headers, **rest)


def verified(asked: CallbackRequest, by: Credentials | None = None) -> bool:
    return WEBHOOKS.verify(by or credentials(), asked)


# --- signatures -------------------------------------------------------------------------------

#: https://github.com/plivo/plivo-go/blob/master/utils_test.go: TestValidateSignatureV3Pass1 to 4.
PUBLISHED_TOKEN = "Y2Q2ZDgxZmY5YWRiOTI5YmQ1Njg0MTAxZWIyOTc4"
PUBLISHED_URL = "https://plivobin.non-prod.plivops.com/api/v1/validate_signature03.xml"
PUBLISHED_FORM = {
    "Direction": "outbound",
    "From": "19792014278",
    "ALegUUID": "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36",
    "CallStatus": "in-progress",
    "BillRate": "0.002",
    "ParentAuthID": "MANWVLYTK4ZWU1YTY4QA",
    "To": "sip:PlivoSignature382029104058171078704104@phone-qa.voice.plivodev.com",
    "ALegRequestUUID": "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36",
    "CallUUID": "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36",
    "RequestUUID": "3e82ae9d-2c78-4d85-b1a4-6eae7dbafb36",
    "SIP-H-To": "<sip:PlivoSignature382029104058171078704104@52.9.11.55;transport=udp>;tag=1",
    "SessionStart": "2020-04-08 11:34:33.238707",
    "Event": "StartApp",
}


@pytest.mark.parametrize(
    ("method", "url", "signature"),
    [
        ("POST", f"{PUBLISHED_URL}/?a=b&c=d", "k7Pusd4OxCIjR5IfA9iedDNu/h/gbdYqdzG/MiYtd1c="),
        ("POST", PUBLISHED_URL, "iAjE5QqI37mbkYe4w3jTMudqEzbDufdqi7sYwTu64e0="),
        # Genuine too, but nothing that we set at Plivo asks for GET.
        ("GET", f"{PUBLISHED_URL}/?a=b&c=d", "UBq8jAtd32wR8EK9VgxbBn4n5rpI/l1H9iN4WfSEHFQ="),
        ("GET", PUBLISHED_URL, "i/MQsaQSAd6fiKhOh2qeeeLHZ9faldADSb3/7+Akfbc="),
    ],
)
def test_plivos_own_examples(method: str, url: str, signature: str) -> None:
    headers = {
        "x-plivo-signature-v3": signature,
        "x-plivo-signature-v3-nonce": "31627761595286130198",
    }
    asked = request(PUBLISHED_FORM, url=url, method=method, headers=headers)
    by = credentials({**CASE.good, "auth_token": PUBLISHED_TOKEN})

    assert verified(asked, by) is (method == "POST")
    assert not verified(asked)


def test_plivos_own_example_of_v2() -> None:
    # https://github.com/plivo/plivo-go/blob/master/utils_test.go: TestValidateSignatureV2Pass
    expected = "ehV3IKhLysWBxC1sy8INm0qGoQYdYsHwuoKjsX7FsXc="
    assert _v2("my_auth_token", "https://answer.url", "12345") == expected
    assert _v2("my_auth_token", "https://answer.url?a=b", "12345") == expected


WORDS = st.from_regex("[a-z]+", fullmatch=True)
FIELDS = st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=6)


@given(form=FIELDS, query=st.lists(st.tuples(WORDS, WORDS)))
def test_we_and_the_sdk_agree(form: list[tuple[str, str]], query: list[tuple[str, str]]) -> None:
    url = f"{URLS.voice}?{urlencode(query)}" if query else URLS.voice
    asked = signed(form, url=url)
    params: dict[str, list[str]] = {}
    for name, value in asked.form:
        params.setdefault(name, []).append(value)

    assert verified(asked)
    assert plivo.utils.validate_v3_signature(
        "POST",
        url,
        asked.headers["x-plivo-signature-v3-nonce"],
        TOKEN,
        asked.headers["x-plivo-signature-v3"],
        params,
    )


@pytest.mark.parametrize(
    "asked",
    [
        signed(),
        signed([("Media0", "b"), ("Media0", "a"), ("CallUUID", "1")]),
        signed({"Text": "Grüße 🎉 + & = %", "From": "ünbekannt"}),
        signed({"Text": ""}),
        signed({}),
        signed(url="https://voice.example.com:8443/callbacks/status/num_1"),
        signed(url="http://127.0.0.1:8080/callbacks/status/num_1"),
        signed(url=f"{URLS.status}?b=2&a=1"),
    ],
    ids=["call", "twice", "unicode", "blank", "empty", "port", "loopback", "query"],
)
def test_what_plivo_signs_is_accepted(asked: CallbackRequest) -> None:
    assert verified(asked)
    assert not verified(asked, credentials({**CASE.good, "auth_token": "other"}))
    assert not verified(asked, SUB)


def change(asked: CallbackRequest, **rest: object) -> CallbackRequest:
    parts: dict[str, Any] = {
        "method": asked.method,
        "url": asked.url,
        "headers": asked.headers,
        "body": asked.body,
    }
    return CallbackRequest(**(parts | rest))


def without(asked: CallbackRequest, *names: str, **more: str) -> CallbackRequest:
    kept = {name: value for name, value in asked.headers.items() if name not in names}
    return change(asked, headers={**kept, **{key.replace("_", "-"): more[key] for key in more}})


BOTH = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")


@pytest.mark.parametrize(
    "forged",
    [
        change(signed(), url=URLS.sms),
        change(signed(), url=URLS.status.replace("https", "http")),
        change(signed(), url=f"{URLS.status}/"),
        change(signed(), url=f"{URLS.status};x=1"),
        change(signed(), url=f"{URLS.status}#x"),
        change(signed(), url=f"{URLS.status}?a=1"),
        change(signed(url=f"{URLS.status}?a=1"), url=URLS.status),
        change(signed(), url=URLS.status.replace(".com", ".com:443")),
        change(signed(), url=URLS.status.replace("num_1", "num_2")),
        change(signed(), body=urlencode({**CALL, "Duration": "43"}).encode()),
        change(signed(), body=urlencode({**CALL, "More": ""}).encode()),
        change(signed(), body=b""),
        change(signed([("a", "1"), ("a", "2")]), body=b"a=1"),
        change(signed([("a", "1"), ("a", "2")]), body=b"a=1&a=1"),
        change(signed({}), body=b'{"CallUUID": "1"}', headers=signed({}).headers),
        change(signed(), method="GET"),
        change(signed(), method="PUT"),
        without(signed(), *BOTH),
        without(signed(), "x-plivo-signature-v3-nonce"),
        without(signed(), "x-plivo-signature-v3-nonce", x_plivo_signature_v3_nonce="1"),
        without(signed(), "x-plivo-signature-v3-nonce", x_plivo_signature_v3_nonce=""),
        without(signed(), *BOTH, x_plivo_signature_v3="bm9uc2Vuc2U="),
        without(signed(), *BOTH, x_plivo_signature_v3=",,"),
    ],
)
def test_anything_else_is_refused(forged: CallbackRequest) -> None:
    assert not verified(forged)


def test_a_body_that_is_no_form_is_not_covered() -> None:
    headers = signed({}).headers
    asked = request(b'{"CallUUID": "1"}', headers={**headers, "content-type": "application/json"})

    assert not verified(asked)


def test_each_active_token_signs() -> None:
    asked = signed()
    several = f"bm9uc2Vuc2U=, {asked.headers['x-plivo-signature-v3']}"

    assert verified(without(asked, *BOTH, x_plivo_signature_v3=several))


def test_a_number_of_a_subaccount_can_be_imported_by_either_account() -> None:
    asked = signed(by=SUB)
    assert "x-plivo-signature-ma-v3" not in asked.headers
    assert verified(asked, SUB)
    assert not verified(asked)

    # Plivo signs it with the main account's token as well.
    nonce = asked.headers["x-plivo-signature-v3-nonce"]
    text = construct_post_url(asked.url, dict(asked.form)).decode()
    main = get_signature_v3(TOKEN.encode(), text, nonce).decode()
    both = without(asked, x_plivo_signature_ma_v3=main)
    assert verified(both, SUB)
    assert verified(both)


def by_v2(url: str, **more: str) -> CallbackRequest:
    headers = {
        "x-plivo-signature-v2-nonce": "12345",
        "x-plivo-signature-v2": _v2(TOKEN, url, "12345"),
    }
    return request(MESSAGE, url=url, headers={**headers, **more})


def test_a_message_may_come_with_v2_alone() -> None:
    asked = by_v2(URLS.sms)
    main = {"x-plivo-signature-ma-v2": asked.headers["x-plivo-signature-v2"]}

    assert verified(asked)
    assert verified(without(asked, "x-plivo-signature-v2", **main))
    assert not verified(asked, SUB)
    assert not verified(without(asked, "x-plivo-signature-v2-nonce"))
    assert not verified(change(asked, url=URLS.sms.replace("num_1", "num_2")))


@pytest.mark.parametrize(
    "asked",
    [by_v2(URLS.voice), by_v2(URLS.status), by_v2(URLS.dialed), by_v2(URLS.recording)],
    ids=lambda asked: asked.url,
)
def test_a_call_may_not(asked: CallbackRequest) -> None:
    assert not verified(asked)


@pytest.mark.parametrize("name", BOTH, ids=["own", "main"])
def test_v2_saves_no_wrong_v3(name: str) -> None:
    nonce = {"x-plivo-signature-v3-nonce": "12345"}

    assert not verified(by_v2(URLS.sms, **{name: "bm9uc2Vuc2U="}))
    assert not verified(by_v2(URLS.sms, **{name: "bm9uc2Vuc2U="}, **nonce))


ANY = st.text(st.characters(exclude_categories=[]))
NAMES = st.sampled_from(
    [
        *BOTH,
        "x-plivo-signature-v3-nonce",
        "x-plivo-signature-v2",
        "x-plivo-signature-v2-nonce",
        "content-type",
    ]
)


@given(
    method=st.sampled_from(["POST", "GET", ""]) | ANY,
    url=ANY
    | st.sampled_from([URLS.sms, "http://[", "https://[::1/sms/x", "//", URLS.sms + "?%ff"]),
    headers=st.dictionaries(NAMES, ANY | st.just(FORM)),
    body=st.binary() | st.just(b"&".join([b"a=1"] * 501)) | st.just(b"a=%ff%fe"),
)
def test_garbage_is_refused_and_never_raises(
    method: str, url: str, headers: dict[str, str], body: bytes
) -> None:
    asked = CallbackRequest(method=method, url=url, headers=headers, body=body)

    assert verified(asked) is False


def test_nothing_of_a_request_shows() -> None:
    assert "planted" not in repr(request({"Text": "planted"}, headers={"x": "planted"}))


def test_a_call_looks_like_plivos_and_can_be_checked() -> None:
    kind, body = WEBHOOKS.call("+14155550111", "+14155550100")
    fields = dict(parse_qsl(body.decode()))

    assert (fields["From"], fields["To"]) == ("14155550111", "14155550100")
    assert (fields["CallStatus"], fields["Direction"]) == ("ringing", "inbound")
    assert fields["Event"] == "StartApp"
    assert verified(signed(body, url=URLS.voice, kind=kind))
    assert WEBHOOKS.call("+14155550111", "+14155550100")[1] != body, "no two calls have one id"
