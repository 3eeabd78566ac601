"""Whose SIP login outbound calls use: the import's, else the platform's, else one that we make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from tests.conftest import make_settings
from tests.vendors import TELNYX_PUBLIC_KEY
from worker.celery_app import Sender
from worker.db.batches import Batches
from worker.db.directory import Directory
from worker.db.engine import make_engine
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers
from worker.db.repository import JobRepository
from worker.db.sweeps import Sweeps
from worker.db.vault import Vault
from worker.domain.errors import InvalidRequest, SipTrunkProvisionFailed
from worker.domain.job import JobQueue
from worker.domain.spec import ImportSpec
from worker.limiter import Limiter
from worker.service import Caller, ImportRequest, Role, Service
from worker.service.figures import Scrapes

CREDENTIALS: dict[str, dict[str, str]] = {
    "twilio": {"account_sid": "AC" + "0" * 32, "auth_token": "sandbox-token-1"},
    "telnyx": {"api_key": "sandbox-key-1", "public_key": TELNYX_PUBLIC_KEY},
    "plivo": {"auth_id": "MA" + "0" * 18, "auth_token": "sandbox-token-1"},
}
PLATFORM = {"TRUNK_ADDRESS": "sip.platform.example", "SIP_USERNAME": "platform"}


class _NoBroker(Sender):
    """The broker's part is not what is asked here: as if it were down."""

    def start(self, import_id: str, queue: JobQueue) -> bool:
        del import_id, queue
        return False


class _Platform:
    def __init__(self, database_url: str, **settings: Any) -> None:
        self.settings = make_settings(database_url, **settings)
        self.engine = make_engine(self.settings)
        self.vault = Vault(self.settings.vault_keys)
        self.jobs = JobRepository(self.engine, resend_after_seconds=2)
        directory = Directory(self.engine)
        self.service = Service(
            settings=self.settings,
            jobs=self.jobs,
            directory=directory,
            numbers=Numbers(self.engine),
            batches=Batches(self.engine, resend_after_seconds=2),
            notifications=Notifications(self.engine),
            sweeps=Sweeps(self.engine, resend_after_seconds=2),
            vault=self.vault,
            sender=_NoBroker(),
            limiter=Limiter(self.settings),
            scrapes=Scrapes(self.settings),
        )
        organization = directory.create_organization("Acme")
        self.caller = Caller(
            organization_id=organization, role=Role.ADMIN, key_id=None, actor="test"
        )

    def submit(self, provider: str, **request: Any) -> tuple[ImportSpec, dict[str, Any]]:
        body = {"phone_number": "+14155550100", "provider": provider, **request}
        if provider in CREDENTIALS:
            body["credentials"] = CREDENTIALS[provider]
        job = self.service.submit(self.caller, ImportRequest(**body)).job
        return ImportSpec.from_json(job.request), self.vault.open(job.sealed)


@pytest.fixture
def platforms(database_url: str) -> Iterator[Any]:
    made: list[_Platform] = []

    def make(**settings: Any) -> _Platform:
        made.append(_Platform(database_url, **settings))
        return made[-1]

    yield make
    for platform in made:
        platform.engine.dispose()


def _environment(provider: str) -> dict[str, Any]:
    found: dict[str, Any] = {f"{provider.upper()}_{name}": text for name, text in PLATFORM.items()}
    return {**found, f"{provider.upper()}_SIP_PASSWORD": SecretStr("planted-platform-password")}


@pytest.mark.parametrize("provider", ["twilio", "telnyx", "plivo", "sip"])
def test_the_platforms_login_serves_imports_that_bring_none(platforms: Any, provider: str) -> None:
    inbound = {"sip": {"allowed_addresses": ["203.0.113.0/30"]}} if provider == "sip" else {}
    spec, secrets = platforms(**_environment(provider)).submit(provider, **inbound)
    assert spec.sip_address == "sip.platform.example"
    assert (secrets["sip_username"], secrets["sip_password"]) == (
        "platform",
        "planted-platform-password",
    )
    assert "planted" not in str(spec)


def test_the_imports_own_login_comes_first(platforms: Any) -> None:
    own = {"address": "sip.own.example", "username": "own", "password": "planted-own"}
    spec, secrets = platforms(**_environment("telnyx")).submit("telnyx", sip=own)
    assert (spec.sip_address, secrets["sip_password"]) == ("sip.own.example", "planted-own")


@pytest.mark.parametrize("provider", ["twilio", "telnyx", "plivo"])
def test_without_either_the_provider_side_login_is_made(platforms: Any, provider: str) -> None:
    spec, secrets = platforms().submit(provider)
    assert (spec.sip_address, secrets["sip_username"]) == (None, None)
    assert len(secrets["termination_password"]) == 24


@pytest.mark.parametrize("provider", ["twilio", "telnyx", "plivo", "sip"])
def test_half_a_platform_login_is_named_to_the_operator(platforms: Any, provider: str) -> None:
    half = _environment(provider)
    del half[f"{provider.upper()}_SIP_PASSWORD"]
    with pytest.raises(SipTrunkProvisionFailed, match=f"{provider.upper()}_SIP_PASSWORD"):
        platforms(**half).submit(provider, sip={"allowed_addresses": ["203.0.113.0/30"]})


def test_a_carrier_needs_all_three_for_outbound_calls(platforms: Any) -> None:
    with pytest.raises(SipTrunkProvisionFailed, match=r"sip\.password"):
        platforms().submit("sip", sip={"address": "sip.own.example"})


OWN = {"address": "sip.own.example", "username": "own", "password": "planted-own"}


@pytest.mark.parametrize("carrier", ["twilio", "telnyx"])
def test_a_known_carriers_calls_need_no_login(platforms: Any, carrier: str) -> None:
    spec, secrets = platforms().submit("sip", sip={**OWN, "carrier": carrier})
    assert (spec.sip_carrier, spec.ownership) == (carrier, "asserted")
    assert (secrets["inbound_username"], secrets["inbound_password"]) == (None, None)
    assert (secrets["sip_username"], secrets["sip_password"]) == ("own", "planted-own")
    assert spec.carrier is not None
    assert "username" not in spec.carrier


def test_plivos_calls_can_log_in(platforms: Any) -> None:
    spec, secrets = platforms().submit("sip", sip={**OWN, "carrier": "plivo"})
    assert (secrets["inbound_username"], secrets["inbound_password"]) == ("own", "planted-own")
    assert spec.carrier is not None
    assert spec.carrier["username"] == "own"


def test_the_platforms_login_is_that_at_the_carrier(platforms: Any) -> None:
    platform = platforms(**_environment("twilio"))
    spec, secrets = platform.submit("sip", sip={"carrier": "twilio"})
    assert (spec.sip_address, secrets["sip_username"]) == ("sip.platform.example", "platform")
    assert (secrets["inbound_username"], secrets["inbound_password"]) == (None, None)
    with pytest.raises(SipTrunkProvisionFailed, match=r"sip\.password"):
        platform.submit("sip", sip={"carrier": "telnyx"})


@pytest.mark.parametrize("provider", ["twilio", "telnyx", "plivo", "sip"])
def test_the_platforms_login_is_never_sent_elsewhere(platforms: Any, provider: str) -> None:
    more: dict[str, Any] = {"allowed_addresses": ["203.0.113.0/30"]} if provider == "sip" else {}
    sip = {"address": "sip.elsewhere.example", **more}
    platform = platforms(**_environment(provider))
    if provider == "sip":
        with pytest.raises(SipTrunkProvisionFailed):
            platform.submit(provider, sip=sip)
    else:
        spec, secrets = platform.submit(provider, sip=sip)
        assert (spec.sip_address, secrets["sip_password"]) == ("sip.elsewhere.example", None)


@pytest.mark.parametrize(
    ("provider", "sip"),
    [
        ("twilio", {"carrier": "twilio"}),
        ("sip", {**OWN, "carrier": "sip"}),
        # Telnyx brings no call with encrypted signalling and media.
        ("sip", {**OWN, "carrier": "telnyx", "media_encryption": "require", "transport": "tls"}),
    ],
    ids=str,
)
def test_a_carrier_that_cannot_be_is_refused(
    platforms: Any, provider: str, sip: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest):
        platforms().submit(provider, sip=sip)


def test_a_job_of_an_earlier_release_names_no_carrier(platforms: Any) -> None:
    spec, _ = platforms().submit("sip", sip={**OWN, "carrier": "twilio"})
    stored = spec.to_json()
    assert ImportSpec.from_json(stored) == spec
    del stored["sip_carrier"]
    assert ImportSpec.from_json(stored).sip_carrier is None
