"""What a client of any platform would have: an organisation, keys, agents, accounts, numbers."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from tests.rig import Rig
from tests.vendors import VENDORS, Order, order_of

_serial = itertools.count(1)


@dataclass(kw_only=True)
class World:
    """Made anew for each case, in one running stack; numbers are its own."""

    rig: Rig
    #: An administrator's key, a viewer's, and one of another organisation.
    key: str
    viewer_key: str
    other_key: str
    organization_id: str
    other_organization_id: str
    #: Objects of the organisation, made when first asked for: name → id as /v1 has it.
    made: dict[str, str] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)

    def order(self, vendor: str = "twilio", **request: Any) -> Order:
        """The account with one number at a vendor, made when first asked for."""
        if vendor not in self.orders:
            kind = next(one for one in VENDORS if one.name == vendor)
            self.orders[vendor] = order_of(self.rig, kind, "webhook", **request)
        return self.orders[vendor]

    def api(self, key: str | None = None) -> httpx.Client:
        """A client of /v1."""
        return httpx.Client(
            base_url=self.rig.stack.api_url,
            headers={"Authorization": f"Bearer {key or self.key}"},
            timeout=60,
            trust_env=False,
        )

    def credential(self, vendor: str = "twilio", key: str | None = None) -> UUID:
        """The vendor's account, stored by the organisation (or by that of another key)."""
        name = f"credential:{vendor}:{key or ''}"
        if name not in self.made:
            body = {"provider": vendor, "credentials": self.order(vendor).body["credentials"]}
            with self.api(key) as client:
                answer = client.post("/v1/credentials", json=body)
            assert answer.status_code == 201, answer.text
            self.made[name] = answer.json()["id"]
        return UUID(self.made[name].removeprefix("cred_"))

    def agent(self, organization: str = "Acme") -> UUID:
        """An agent of the organisation (or of another one)."""
        name = f"agent:{organization}"
        if name not in self.made:
            agent = f"agent-{next(_serial)}"
            arguments = ("admin", "create-agent", agent, "-o", organization)
            made = self.rig.stack.command("agent", *arguments, "--dispatch-name", agent)
            self.made[name] = made.strip()
        return UUID(self.made[name].removeprefix("agt_"))

    def user(self) -> UUID:
        """A user of the organisation."""
        if "user" not in self.made:
            rows = self.rig.sql(
                "INSERT INTO users (id, organization_id, name) VALUES (gen_random_uuid(), "  # noqa: S608 -- our own id
                f"'{self.organization_id.removeprefix('org_')}', 'Ada') RETURNING id"
            )
            self.made["user"] = f"usr_{rows[0][0].hex}"
        return UUID(self.made["user"].removeprefix("usr_"))

    def number_of(self, order: Order) -> Mapping[str, Any]:
        """The number as its vendor holds it."""
        state = self.rig.sandbox.get("/_sandbox/state").json()
        numbers = state[order.vendor]["accounts"][order.account]["numbers"]
        found: Mapping[str, Any] = next(iter(numbers.values()))
        return found

    def fault(self, order: Order, **fault: Any) -> None:
        """Scripts a fault of the vendor for this account alone."""
        self.rig.fault(vendor=order.vendor, account=order.account, **fault)

    @staticmethod
    def unknown_uuid() -> UUID:
        """An id that names nothing."""
        return UUID(bytes=secrets.token_bytes(16), version=4)
