"""The search must find, or that it found nothing would say nothing."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest

from tests.chaos.search import Search

MARKER = "sandbox-planted"
PLANTED = f"{MARKER}-token-00007"
MADE = "q8ZkT3vYw1XbN5sLr7Hd2PfM"


def forms(secret: str) -> dict[str, str]:
    message = json.dumps([[secret], {}, {}])
    header = b64encode(f"user:{secret}".encode()).decode()
    return {
        "as it is": f"password {secret} refused",
        "in a word": f"xx{secret}yy",
        "in a query": f"https://pbx.example.com/voice?key={secret}&x=1",
        "percent-encoded": quote(f"<{secret}>", safe="").replace("-", "%2D"),
        "in a basic header": f"Authorization: Basic {header}",
        "in a message": json.dumps({"body": b64encode(message.encode()).decode()}),
        "in a header in a message": b64encode(
            json.dumps({"a": f"Basic {header}"}).encode()
        ).decode(),
        "url-safe": urlsafe_b64encode(f"?>{secret}".encode()).decode(),
        "behind a name": f"token={b64encode(secret.encode()).decode()}",
        "as bytes of a database": f"\\x{secret.encode().hex()}",
        "in capitals of hexadecimal": secret.encode().hex().upper(),
    }


@pytest.mark.parametrize("form", forms(PLANTED))
def test_a_planted_secret_is_found_in_every_form(form: str) -> None:
    text = forms(PLANTED)[form]
    assert Search(MARKER).find(text) == {f"{MARKER}-token"}


@pytest.mark.parametrize("form", forms(MADE))
def test_a_secret_that_the_product_made_is_found_in_every_form(form: str) -> None:
    text = forms(MADE)[form]
    assert Search(MARKER, {MADE: "a password"}).find(text) == {"a password"}


def test_a_secret_is_told_each_time_and_other_text_never() -> None:
    search = Search(MARKER, {MADE: "a password"})
    for _ in range(2):
        assert search.find(f"nothing {MADE[:-1]} of it {MARKER}") == set()
        assert search.find(f"nothing but {MADE}") == {"a password"}


def test_a_secret_that_could_be_any_text_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        Search(MARKER, {"1234": "a PIN"})
