from __future__ import annotations

import socket

import pytest

from worker.domain.errors import ProviderUnavailable, SipTrunkProvisionFailed, TrunklineError
from worker.steps.provision_trunks import _require_resolvable


def test_a_host_that_the_resolver_knows_is_fine() -> None:
    _require_resolvable("localhost:5060")
    _require_resolvable("127.0.0.1")


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (socket.EAI_NONAME, SipTrunkProvisionFailed),
        (socket.EAI_AGAIN, ProviderUnavailable),
    ],
)
def test_an_absent_host_is_told_from_a_resolver_that_is_away(
    monkeypatch: pytest.MonkeyPatch, reason: int, error: type[TrunklineError]
) -> None:
    def look_up(host: str, _port: object) -> None:
        assert host == "sip.example.com"
        raise socket.gaierror(reason, "no")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(error):
        _require_resolvable("sip.example.com:5061")
