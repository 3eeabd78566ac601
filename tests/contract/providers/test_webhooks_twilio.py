"""Which of Twilio's webhooks are believed; what they say is in tests/unit/providers."""

from __future__ import annotations

import base64
import hmac
import logging
from collections.abc import Mapping, Sequence
from hashlib import sha1, sha256
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.providers.cases.twilio import ACCOUNT, STANDARD_KEY, SUBACCOUNT
from worker.domain.calls import CallbackRequest
from worker.providers._core import Credentials
from worker.providers._twilio_credentials import TwilioCredentials
from worker.providers.twilio import Twilio

FORM_TYPE = "application/x-www-form-urlencoded"
SIGNATURE = "x-twilio-signature"
SETTINGS = "x-twilio-webhooks-signature-settings"
#: Of all the examples.
TOKEN = "12345"
URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
PARAMS = {
    "CallSid": "CA1234567890ABCDE",
    "Caller": "+14158675309",
    "Digits": "1234",
    "From": "+14158675309",
    "To": "+18005551212",
}
BODY = b'{"property": "value", "boolean": true}'
BODY_HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"

assert Twilio.webhooks is not None
WEBHOOKS = Twilio.webhooks


def credentials(token: str = TOKEN, **fields: str) -> TwilioCredentials:
    return TwilioCredentials.model_validate({"account_sid": ACCOUNT, "auth_token": token, **fields})


def request(
    fields: Mapping[str, object] | Sequence[tuple[str, str]] | bytes = b"",
    *,
    url: str = URL,
    signature: str | None = None,
    method: str = "POST",
    content_type: str = FORM_TYPE,
    **headers: str,
) -> CallbackRequest:
    body = fields if isinstance(fields, bytes) else urlencode(fields, doseq=True).encode()
    sent = {"content-type": content_type, **headers}
    if signature is not None:
        sent[SIGNATURE] = signature
    return CallbackRequest(method=method, url=url, headers=sent, body=body)


def by_hand(text: str, token: str = TOKEN, digest: Any = sha1) -> str:
    """The algorithm of the vendor's page in two lines, without the SDK that is tested."""
    return base64.b64encode(hmac.new(token.encode(), text.encode(), digest).digest()).decode()


@pytest.mark.parametrize(
    ("sent", "signature"),
    [
        # From https://www.twilio.com/docs/usage/webhooks/webhooks-security as it stood for years,
        # and in the test suites of Twilio's SDKs for Python, PHP and C#.
        (request(PARAMS), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (request(dict(reversed(PARAMS.items()))), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        # twilio-php, tests/Twilio/Unit/Security/RequestValidatorTest.php
        (
            request({"Sid": "CA123", "SidAccount": "AC123", "Digits": ["5678", "1234", "1234"]}),
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
        (
            request(PARAMS, url="https://user:pass@mycompany.com/myapp.php?foo=1&bar=2"),
            "CukzLTc1tT5dXEDIHm/tKBanW10=",
        ),
        (
            request(PARAMS, url="https://user@mycompany.com/myapp.php?foo=1&bar=2"),
            "2YRLlVAflCqxaNicjMpJcSTgzSs=",
        ),
        (request(PARAMS), "kvajT1Ptam85bY51eRf/AJRuM3w="),  # signed with port 443
        (
            request(PARAMS, url="http://mycompany.com/myapp.php?foo=1&bar=2"),
            "0ZXoZLH/DfblKGATFgpif+LLRf4=",  # signed with port 80
        ),
        (
            request(PARAMS, url="https://mycompany.com:1234/myapp.php?foo=1&bar=2"),
            "RSOYDt4T1cUTdK1PDd93/VVr8B8=",  # signed without the port
        ),
        (
            request(PARAMS, url="http://mycompany.com:1234/myapp.php?foo=1&bar=2"),
            "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=",  # signed with the port
        ),
        # twilio-csharp, test/Twilio.Test/Security/RequestValidatorTest.cs
        (
            request(PARAMS, url="https://MyCompany.com/myapp.php?foo=1&bar=2"),
            "g9IN/x4Cft2g517EjYvEvM/W7LU=",
        ),
        (
            request(PARAMS, url="https://mycompany.com:1234/myapp.php?foo=1&bar=2"),
            "CYn1h0gLBdNxDGkKJg6hYohgeD8=",
        ),
        (
            request(BODY, url=f"{URL}&bodySHA256={BODY_HASH}", content_type="application/json"),
            "a9nBmqA0ju/hNViExpshrM61xv4=",
        ),
        (
            request(
                BODY,
                url=f"https://mycompany.com/myapp.php?bodySHA256={BODY_HASH}",
                content_type="application/json",
            ),
            "y77kIzt2vzLz71DgmJGsen2scGs=",
        ),
    ],
)
def test_signatures_that_the_vendor_publishes_are_believed(
    sent: CallbackRequest, signature: str
) -> None:
    signed = CallbackRequest(
        method="POST", url=sent.url, headers={**sent.headers, SIGNATURE: signature}, body=sent.body
    )
    assert WEBHOOKS.verify(credentials(), signed)
    assert not WEBHOOKS.verify(credentials("54321"), signed)


GOOD = "RSOYDt4T1cUTdK1PDd93/VVr8B8="


@pytest.mark.parametrize(
    "forged",
    [
        request(PARAMS),
        request(PARAMS, signature=""),
        request(PARAMS, signature=f"NOT{GOOD}"),
        request(PARAMS, signature=GOOD.lower()),
        request(PARAMS, signature=f"{GOOD} "),
        request(PARAMS, signature=by_hand(URL)),
        request(PARAMS | {"Digits": "9999"}, signature=GOOD),
        request(PARAMS | {"Extra": ""}, signature=GOOD),
        request({k: v for k, v in PARAMS.items() if k != "To"}, signature=GOOD),
        request([*PARAMS.items(), ("Digits", "9999")], signature=GOOD),
        request(PARAMS, url=f"{URL}&baz=3", signature=GOOD),
        request(PARAMS, url=URL.replace("https", "http"), signature=GOOD),
        request(PARAMS, url=URL.replace("mycompany", "theircompany"), signature=GOOD),
        request(PARAMS, url=URL.replace("myapp", "other"), signature=GOOD),
        request(PARAMS, signature=GOOD, content_type="application/json"),
        request(PARAMS, signature=GOOD, content_type="text/plain"),
        # Only the URL is signed, and nothing in it speaks for the body.
        request(BODY, signature=by_hand(URL), content_type="application/json"),
        request(b"&&&", signature=by_hand(URL)),
        # A body other than the one whose hash is signed, also none, also as a form.
        *(
            request(
                body,
                url=f"{URL}&bodySHA256={BODY_HASH}",
                signature="a9nBmqA0ju/hNViExpshrM61xv4=",
                content_type=kind,
            )
            for body in (b"", BODY + b" ", b"a=1")
            for kind in ("application/json", FORM_TYPE)
        ),
        request(b"&".join([b"a=1"] * 501), signature=by_hand(f"{URL}a1")),
        request(PARAMS, url="https://[mycompany.com/", signature=GOOD),
        request(PARAMS, url="https://mycompany.com:port/", signature=GOOD),
        request(PARAMS, url="https://mycompany.com/\ud800", signature=GOOD),
    ],
)
def test_a_request_that_differs_in_anything_is_not_believed(forged: CallbackRequest) -> None:
    assert not WEBHOOKS.verify(credentials(), forged)


def test_a_shared_keys_signature_is_believed_by_the_algorithm_that_the_header_names() -> None:
    text = URL + "".join(name + PARAMS[name] for name in sorted(PARAMS))
    strong = by_hand(text, digest=sha256)
    named = {SETTINGS: "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}

    assert WEBHOOKS.verify(credentials(), request(PARAMS, signature=strong, **named))
    assert not WEBHOOKS.verify(credentials(), request(PARAMS, signature=strong))
    assert not WEBHOOKS.verify(credentials(), request(PARAMS, signature=GOOD, **named))
    # Signed with the shared key's own secret, which nobody gave us.
    foreign = by_hand(text, "shared-key", sha256)
    assert not WEBHOOKS.verify(credentials(), request(PARAMS, signature=foreign, **named))


def test_an_unknown_algorithm_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        sent = request(PARAMS, signature=GOOD, **{SETTINGS: "algorithm=PLANTED"})
        assert not WEBHOOKS.verify(credentials(), sent)

    assert not caplog.records


@pytest.mark.parametrize(
    "fields",
    [
        {"account_sid": SUBACCOUNT, "auth_token": "12345", "parent_account_sid": ACCOUNT},
        {"account_sid": ACCOUNT, **STANDARD_KEY},
        {"account_sid": ACCOUNT, "api_key_sid": STANDARD_KEY["api_key_sid"]}
        | {"api_key_secret": "12345"},
    ],
)
def test_a_key_or_a_parents_token_neither_verifies_nor_signs(fields: dict[str, str]) -> None:
    given_ = TwilioCredentials.model_validate(fields)

    assert not WEBHOOKS.verify(given_, request(PARAMS, signature=GOOD))
    assert WEBHOOKS.sign(given_, request(PARAMS)) is None


def test_with_a_key_beside_it_the_token_still_verifies() -> None:
    assert WEBHOOKS.verify(credentials(**STANDARD_KEY), request(PARAMS, signature=GOOD))


def test_credentials_of_another_vendor_verify_nothing() -> None:
    class Foreign(Credentials):
        auth_token: str = "12345"

        @property
        def account_ref(self) -> str:
            return ACCOUNT

        @property
        def can_verify_webhooks(self) -> bool:
            return True

    assert not WEBHOOKS.verify(Foreign(), request(PARAMS, signature=GOOD))


text = st.text(max_size=40)
pairs = st.lists(st.tuples(text, text), max_size=20)


@given(pairs=pairs, token=st.text("abc123", min_size=1))
def test_what_is_signed_is_believed_and_what_is_changed_is_not(
    pairs: list[tuple[str, str]], token: str
) -> None:
    pairs = [(name.encode(errors="replace").decode(), "ü" + value) for name, value in pairs]
    pairs = [(name, value.encode(errors="replace").decode()) for name, value in pairs]
    sent = request([*pairs, ("Körper", "日本語 &=+%")])
    headers = WEBHOOKS.sign(credentials(token), sent)
    assert headers is not None
    signed = CallbackRequest(
        method="POST", url=sent.url, headers={**sent.headers, **headers}, body=sent.body
    )

    assert WEBHOOKS.verify(credentials(token), signed)
    assert not WEBHOOKS.verify(credentials(f"{token}x"), signed)
    changed = CallbackRequest(
        method="POST", url=sent.url, headers=signed.headers, body=sent.body + b"&New=1"
    )
    assert not WEBHOOKS.verify(credentials(token), changed)


@given(
    url=st.one_of(st.text(), st.builds("https://{}".format, st.text())),
    body=st.binary(),
    headers=st.dictionaries(st.sampled_from([SIGNATURE, SETTINGS, "content-type"]), st.text()),
    kind=st.sampled_from([FORM_TYPE, "application/json", None]),
)
def test_garbage_is_refused_and_never_raises(
    url: str, body: bytes, headers: dict[str, str], kind: str | None
) -> None:
    sent = headers | ({"content-type": kind} if kind else {})

    assert not WEBHOOKS.verify(
        credentials(), CallbackRequest(method="POST", url=url, headers=sent, body=body)
    )


def test_a_call_of_ours_looks_like_the_vendors() -> None:
    kind, body = WEBHOOKS.call("+14155550100", "+442071838750")
    sent = request(body, content_type=kind)
    form = dict(sent.form)

    assert (form["From"], form["To"]) == ("+14155550100", "+442071838750")
    assert (form["Caller"], form["Called"]) == (form["From"], form["To"])
    assert (form["CallStatus"], form["Direction"]) == ("ringing", "inbound")
    headers = WEBHOOKS.sign(credentials(), sent)
    assert headers is not None
    assert WEBHOOKS.verify(credentials(), request(body, signature=headers[SIGNATURE]))
