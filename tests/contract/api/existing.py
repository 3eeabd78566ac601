"""Objects that generated requests can be about: almost no generated id names one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemathesis import Case

from tests.rig import Rig


class Existing:
    """One object of each kind in a running stack; one that a request may delete is made anew."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._made: dict[str, str] = {}
        self._makers: Mapping[str, Callable[[], str]] = {
            "agent_id": lambda: self._post(
                "agents", {"name": "Front desk", "dispatch_name": "front-desk"}
            ),
            "batch_id": lambda: self._post("batches", {"items": [self.request(), {"price": -1}]}),
            "credential_id": self._credential,
            "import_id": lambda: self._post("imports", self.request()),
            "key_id": lambda: self._post("api-keys", {"name": "Dashboard", "role": "viewer"}),
            "number_id": self._number,
            "organization_id": self._organization,
            "user_id": lambda: self._post("users", {"name": "Ada"}),
        }

    def request(self) -> dict[str, Any]:
        """An import that a worker can carry out, of an account of its own."""
        return dict(self._rig.customer().request)

    def name(self, case: Case[Any]) -> None:
        """Lets a request be about what exists."""
        for parameter in case.path_parameters:
            if parameter not in self._made:
                self._made[parameter] = self._makers[parameter]()
            case.path_parameters[parameter] = self._made[parameter]
            if case.method == "DELETE":
                del self._made[parameter]

    def fill(self, case: Case[Any]) -> None:
        """Gives an import that can be carried out the generated settings."""
        body, wanted = case.body, self.request()
        if not isinstance(body, dict):
            return
        # What names an object: another account's, or most often none.
        for reference in ("agent_id", "user_id", "credential_id", "number_sid"):
            body.pop(reference, None)
        body |= {name: wanted[name] for name in ("phone_number", "provider", "credentials")}

    def _credential(self) -> str:
        wanted = self.request()
        return self._post("credentials", {key: wanted[key] for key in ("provider", "credentials")})

    def _number(self) -> str:
        import_id = self._post("imports", self.request())
        job = self._rig.wait([import_id])[import_id]
        assert job["status"] == "active", job
        number_id: str = job["phone_number_id"]
        return number_id

    def _organization(self) -> str:
        [[found]] = self._rig.sql("SELECT id FROM organizations")
        return f"org_{found.hex}"

    def _post(self, kind: str, body: Mapping[str, Any]) -> str:
        answer = self._rig.api.post(f"/v1/{kind}", json=body)
        assert answer.is_success, answer.text
        made: str = answer.json()["id"]
        return made
