"""A signed request of which any one byte is another one is not what was signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from typing import Final
from urllib.parse import urlencode, urlsplit

import pytest

from tests.integration.api.conftest import Platform, Tenant
from tests.integration.api.lines import FORM, VENDORS, Line, active, sign

#: Headers that a vendor signs by, or signs.
SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    "twilio": ("X-Twilio-Signature",),
    "telnyx": ("telnyx-signature-ed25519", "telnyx-timestamp"),
    "plivo": ("X-Plivo-Signature-V3", "X-Plivo-Signature-V3-Nonce"),
}


class Signed:
    """A request as its vendor sent it: its target, its headers and its body."""

    def __init__(self, line: Line) -> None:
        query = "?tried=agent"
        self.target = line.path("status") + query
        self.body = urlencode(line.call(CallStatus="completed")).encode()
        self.headers = sign(line.vendor, line.url("status") + query, self.body)

    def mutations(self, vendor: str) -> Iterator[tuple[str, str, Mapping[str, str], bytes]]:
        """Each byte of each part with its lowest bit turned over."""
        for place in range(len(self.body)):
            body = bytearray(self.body)
            body[place] ^= 1
            yield f"body byte {place}", self.target, self.headers, bytes(body)
        for name in SIGNED[vendor]:
            for place in range(len(self.headers[name])):
                value = _flipped(self.headers[name], place)
                if value is not None:
                    changed = {**self.headers, name: value}
                    yield f"{name} byte {place}", self.target, changed, self.body
        first, last = len("/callbacks/"), len(self.target)
        if vendor == "telnyx":
            # It signs the time and the body; what of the URL counts is the number, which the body
            # must name.
            first = self.target.index("num_")
            last = self.target.index("?")
        for place in range(first, last):
            target = _flipped(self.target, place)
            if target is not None:
                yield f"target byte {place}", target, self.headers, self.body


def _flipped(text: str, place: int) -> str | None:
    """None for what HTTP itself has no room for."""
    changed = chr(ord(text[place]) ^ 1)
    if changed in " \x7f":
        return None
    return text[:place] + changed + text[place + 1 :]


def send(
    connection: HTTPConnection, target: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    connection.putrequest("POST", target, skip_accept_encoding=True)
    for name, value in {"Content-Type": FORM, **headers}.items():
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_byte_of_a_signed_request_can_be_another(
    platform: Platform, tenant: Tenant, vendor: str
) -> None:
    line = active(platform, tenant, vendor)
    signed = Signed(line)
    parts = urlsplit(platform.url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    tried = 0
    with platform.without_failure():
        for what, target, headers, body in signed.mutations(vendor):
            status, answer = send(connection, target, headers, body)
            # Some other targets are no route at all.
            allowed = {403, 404, 405, 400} if what.startswith("target") else {403}
            assert status in allowed, (what, status, answer)
            tried += 1
        assert tried > 150
        assert line.stored() == 0
        # And it was right before.
        status, answer = send(connection, signed.target, signed.headers, signed.body)
        assert status == 200, answer
        assert line.stored() == 1
    connection.close()
