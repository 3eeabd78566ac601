"""One provider, its vendor's sandbox, and the strings that a test may pull."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests

from tests.contract.providers.case import Document, Made, ProviderCase
from tests.unit.providers.examples import settings
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import CallbackUrls, ImportTag, SipLogin, TrunkPlan
from worker.providers import PROVIDERS, Provider
from worker.settings import Settings

IMPORT = "imp_1"
TAG = ImportTag(import_id=IMPORT)
URLS = CallbackUrls(
    voice="https://voice.example.com/callbacks/voice/num_1",
    status="https://voice.example.com/callbacks/status/num_1",
    sms="https://voice.example.com/callbacks/sms/num_1",
    dialed="https://dialed.example.com/callbacks/dialed/num_1",
    recording="https://recording.example.com/callbacks/recording/num_1",
)
LOGIN = SipLogin(username="trunkline1", password="Planted-Password-1")
PLAN = TrunkPlan(
    origination_host="project.sip.example.com",
    origination_login=None,
    termination=LOGIN,
    secure=False,
)


class World:
    """The sandbox after a reset, seeded for one provider."""

    def __init__(self, case: ProviderCase, url: str, control: requests.Session) -> None:
        self.case = case
        self._url = url
        self._control = control
        self.reset()

    def reset(self) -> None:
        """Starts over with the seed, an empty journal and no fault."""
        case = self.case
        self._post("reset", {case.vendor: dict(case.seed())})
        self._before = case.made(self.state())

    def provider(
        self,
        fields: Mapping[str, str] | None = None,
        *,
        step: StepName = StepName.ROUTE_NUMBER,
        number: int = 1,
        lease: Lease | None = None,
        url: str | None = None,
        **limits: float,
    ) -> Provider:
        """Returns the adapter, as a worker would get it for one attempt."""
        adapter = PROVIDERS[self.case.name]
        credentials = adapter.credentials_model.model_validate(dict(fields or self.case.good))
        attempt = Attempt(
            import_id=IMPORT, step=step, number=number, lease=lease or Lease(seconds=60)
        )
        return adapter.connect(credentials, self.settings(url, **limits), attempt)

    def settings(self, url: str | None = None, **limits: float) -> Settings:
        """Returns settings that lead to the sandbox, or to the given address."""
        return settings(**self.case.settings(url or self._url), **limits)

    def state(self) -> Mapping[str, object]:
        """Returns what the vendor holds."""
        document: Mapping[str, object] = self._get("state")[self.case.vendor]
        return document

    def made(self) -> Made:
        """Returns what has been made since the seed, without kinds of which there is nothing."""
        now = self.case.made(self.state())
        return {
            kind: ids - self._before[kind] for kind, ids in now.items() if ids != self._before[kind]
        }

    def journal(self, *, write: bool | None = None) -> list[dict[str, Any]]:
        """Returns the requests to the vendor so far."""
        entries: list[dict[str, Any]] = self._get("journal")["entries"]
        return [entry for entry in entries if write is None or entry["write"] is write]

    def fault(
        self, action: str, *, match: Mapping[str, object] | None = None, **rest: object
    ) -> None:
        """Sets a fault for the vendor's requests; for one of them unless ``times`` says else."""
        self._post(
            "faults",
            {"match": {"vendor": self.case.vendor, **(match or {})}, "action": action, **rest},
        )

    def clear_faults(self) -> None:
        """Removes all faults."""
        self._control.delete(f"{self._url}/_sandbox/faults", timeout=5).raise_for_status()

    def release(self) -> None:
        """Lets the requests that a fault holds go on."""
        self._post("holds/release", {"proceed": True})

    def edit(self, settings: Mapping[str, object]) -> None:
        """Changes the number by hand."""
        self.change(self.case.edit(settings))

    def change(self, document: Document) -> None:
        """Changes something by hand."""
        self._post("edit", {"vendor": self.case.vendor, **document})

    def add(self, document: Document) -> None:
        """Seeds more."""
        self._post("seed", {self.case.vendor: dict(document)})

    def number(self) -> object:
        """Returns everything the vendor knows of the number."""
        return self.case.number_state(self.state())

    def _get(self, name: str) -> dict[str, Any]:
        answer = self._control.get(f"{self._url}/_sandbox/{name}", timeout=5)
        answer.raise_for_status()
        document: dict[str, Any] = answer.json()
        return document

    def _post(self, name: str, document: object) -> None:
        answer = self._control.post(f"{self._url}/_sandbox/{name}", json=document, timeout=5)
        assert answer.ok, answer.text
