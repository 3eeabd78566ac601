"""Where LiveKit may be sent on a customer's word."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tests.conftest import make_settings
from worker.addresses import Resolver
from worker.domain.errors import InvalidRequest, ProviderUnavailable, SipTrunkProvisionFailed
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import ProviderName
from worker.intake import ImportRequest, NumberChange, changed, spec_of
from worker.settings import Settings
from worker.sip_hosts import look_up_sip_address, read_sip_address

PUBLIC = "93.184.215.14"
SETTINGS = make_settings("postgresql://h/d")
CHECKED = make_settings("postgresql://h/d", sip_dns_check=True)
OWN_NETWORK = make_settings("postgresql://h/d", sip_private_networks="10.20.0.0/16, fd12::/48")


def spec(address: str | None = "sip.example.com:5061") -> ImportSpec:
    login = {"address": "sip.example.com", "username": "acme", "password": "sandbox-sip"}
    request = ImportRequest(
        phone_number="+14155550100",
        provider=ProviderName.SIP,
        sip=login,
    )
    return replace(spec_of(request, SETTINGS), sip_address=address)


def knows(*addresses: str) -> Resolver:
    return lambda _host: addresses


def fails(reason: int) -> Resolver:
    def ask(_host: str) -> list[str]:
        raise socket.gaierror(reason, "no")

    return ask


# What the text alone tells


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.0.0.1:5060",
        "0.0.0.0",  # noqa: S104 -- to be refused
        "10.0.0.5:5061",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.169.254:8080",
        "172.16.0.1",
        "192.168.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "redis.internal:6379",
        "sip.local",
        "sip.prod.svc",
        "sip.prod.svc.cluster.local",
        "a.localhost",
        "a.LOCALHOST",
        "pbx.lan",
        # Forms that some resolver, or LiveKit's, might read as an address or as more than a host.
        "0177.0.0.1",
        "017.0.0.1",
        "010.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0x7f000001",
        "[::1]",
        "[::1]:5060",
        "::1",
        "::ffff:10.0.0.1",
        "[::ffff:10.0.0.1]:5060",
        "[fd00:ec2::254]",
        "sip.example.com.",
        "127.0.0.1.",
        "sip..example.com",
        "sip.example.com:5060:5061",
        "sip.example.com;maddr=10.0.0.1",
        "sip.example.com:5060;maddr=10.0.0.1",
        "sip.example.com;transport=tcp",
        "sip.example.com?Route=<sip:10.0.0.1>",
        "sip.example.com>",
        "sip.example.com,10.0.0.1",
        "sip.example.com/x",
        "sip.example.com#x",
        "sip.example.com\r\nRoute: <sip:10.0.0.1>",
        "sip.example.com\tx",
        "sip.example.com\0",
        "sip.example.com%0d%0a",
        "user@10.0.0.1",
        "user:pw@sip.example.com",
        "sips:sip.example.com",
        "tel:+14155550100",
        "sip.exаmple.com",  # a Cyrillic letter
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        # Ports that speak something else.
        "sip.example.com:22",
        "sip.example.com:25",
        "sip.example.com:53",
        f"{PUBLIC}:80",
        "sip.example.com:0",
        "sip.example.com:65536",
        "sip.example.com:+5060",
        "sip.example.com:５０６０",
    ],
)
def test_an_address_that_is_not_public_or_not_plain_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest):
        read_sip_address(address, SETTINGS)


@pytest.mark.parametrize(
    "address",
    [
        "sip.telnyx.com",
        "acme.pstn.twilio.com:5061",
        "SIP.Example.COM",
        PUBLIC,
        f"{PUBLIC}:5060",
        "sip.example.com:443",
        "sip.example.com:65535",
    ],
)
def test_an_address_on_the_public_internet_is_taken(address: str) -> None:
    assert read_sip_address(address, SETTINGS) == address


def test_a_network_of_the_operator_s_own_may_be_let_in() -> None:
    assert read_sip_address("10.20.3.4:5060", OWN_NETWORK) == "10.20.3.4:5060"
    # What the name leads to is seen once it is looked up.
    assert read_sip_address("pbx.lan", OWN_NETWORK) == "pbx.lan"
    for address in ("10.21.0.1", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(InvalidRequest, match="private"):
            read_sip_address(address, OWN_NETWORK)


def test_the_platforms_own_address_is_the_operator_s_choice() -> None:
    settings = make_settings(
        "postgresql://h/d",
        SIP_TRUNK_ADDRESS="10.0.0.9:5060",
        SIP_SIP_USERNAME="platform",
        SIP_SIP_PASSWORD="sandbox-platform",
    )
    sip = {"address": "10.0.0.9:5060", "allowed_addresses": ["203.0.113.1"]}
    request = ImportRequest(
        phone_number="+14155550100",
        provider=ProviderName.SIP,
        sip=sip,
    )
    made = spec_of(request, settings)
    assert made.sip_address == "10.0.0.9:5060"
    look_up_sip_address(made, settings)
    # It is no door to what lies beside it, nor for another carrier's imports.
    for address in ("10.0.0.9:5061", "10.0.0.8:5060"):
        with pytest.raises(SipTrunkProvisionFailed, match="private"):
            look_up_sip_address(replace(made, sip_address=address), settings)
    with pytest.raises(SipTrunkProvisionFailed, match="private"):
        look_up_sip_address(replace(made, sip_carrier=ProviderName.TELNYX), settings)


# What the name leads to


@pytest.mark.parametrize("settings", [SETTINGS, CHECKED], ids=["unchecked", "checked"])
@pytest.mark.parametrize(
    "addresses",
    [
        ("10.0.0.1",),
        (PUBLIC, "10.0.0.1"),
        ("169.254.169.254",),
        ("::1",),
        ("::ffff:10.0.0.1",),
        ("64:ff9b::a00:1",),
        ("2002:a00:1::",),
        ("2001:0:a00:1::",),
        ("fd00:ec2::254",),
    ],
)
def test_a_name_that_leads_inside_is_refused(
    addresses: tuple[str, ...], settings: Settings
) -> None:
    with pytest.raises(SipTrunkProvisionFailed, match="private"):
        look_up_sip_address(spec(), settings, resolver=knows(*addresses))


def test_a_public_name_passes_and_the_port_is_not_asked_for() -> None:
    asked: list[str] = []

    def ask(host: str) -> list[str]:
        asked.append(host)
        return [PUBLIC, "2606:4700::1111"]

    look_up_sip_address(spec(), CHECKED, resolver=ask)
    assert asked == ["sip.example.com"]


def test_a_name_may_lead_into_a_network_that_was_let_in() -> None:
    look_up_sip_address(spec(), OWN_NETWORK, resolver=knows("10.20.0.7", "fd12::7"))
    with pytest.raises(SipTrunkProvisionFailed):
        look_up_sip_address(spec(), OWN_NETWORK, resolver=knows("10.20.0.7", "10.99.0.7"))


def test_an_import_without_an_address_of_its_own_asks_nobody() -> None:
    look_up_sip_address(spec(None), CHECKED, resolver=fails(socket.EAI_FAIL))


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (socket.EAI_NONAME, SipTrunkProvisionFailed),
        (socket.EAI_AGAIN, ProviderUnavailable),
    ],
)
def test_an_absent_name_is_told_from_a_resolver_that_is_away(
    reason: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        look_up_sip_address(spec(), CHECKED, resolver=fails(reason))
    # A carrier may have SRV records alone: that is the operator's to decide.
    look_up_sip_address(spec(), SETTINGS, resolver=fails(reason))


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    gate = threading.Event()

    def hang(_host: str) -> list[str]:
        gate.wait(10)
        return []

    with pytest.raises(ProviderUnavailable):
        look_up_sip_address(spec(), CHECKED, resolver=hang, seconds=0.1)
    look_up_sip_address(spec(), SETTINGS, resolver=hang, seconds=0.1)
    gate.set()


def test_a_change_of_login_is_held_to_the_same() -> None:
    hidden = ImportSecrets(
        inbound_username="acme",
        inbound_password="sandbox-sip",
        termination_username="out",
        termination_password="sandbox-out",
        sip_username="acme",
        sip_password="sandbox-sip",
        pin="",
        fingerprint="f",
    )

    def change(username: str, password: str) -> None:
        login = {"username": username, "password": password}
        changed(NumberChange(sip=login), spec(), hidden)

    change("other", "sandbox-other")
    with pytest.raises(InvalidRequest, match="username"):
        change("other>;transport=tcp", "sandbox-other")
    # Control characters are refused where the request is read.
    with pytest.raises(ValidationError, match="username"):
        change("other\r\nRoute: <sip:10.0.0.1>", "sandbox-other")
    with pytest.raises(ValidationError, match="password"):
        change("other", "sandbox-other\n")
