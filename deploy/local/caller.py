"""What a caller of the HTTP API does: submit an import, follow it, read the number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Self

import httpx

from deploy.local.processes import StackError

#: A job as the API shows it.
Job = dict[str, Any]

FINAL: Final = frozenset({"active", "failed", "cancelled", "stuck", "released"})
_WAIT_SECONDS: Final = 20
_WAIT: Final = {"Prefer": f"wait={_WAIT_SECONDS}"}
_HTTP_NOT_MODIFIED: Final = 304


class Caller:
    """An HTTP client with an API key; a context manager."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=_WAIT_SECONDS + 10,
            trust_env=False,  # loopback: never through a proxy
        )

    def submit(self, body: Mapping[str, Any]) -> Job:
        """Submits an import and returns the job."""
        return self._document(self._http.post("/v1/imports", json=dict(body)))

    def follow(self, job: Job) -> Iterator[Job]:
        """Yields the job each time that it has changed, until it is final."""
        path = f"/v1/imports/{job['id']}"
        answer = self._http.get(path)
        while True:
            if answer.status_code != _HTTP_NOT_MODIFIED:
                job = self._document(answer)
                yield job
                if job["status"] in FINAL:
                    return
            seen = {"If-None-Match": answer.headers["ETag"]}
            answer = self._http.get(path, params={"wait": _WAIT_SECONDS}, headers=seen)

    def number(self, phone_number_id: str) -> dict[str, Any]:
        """Returns the record of an imported number."""
        return self._document(self._http.get(f"/v1/phone-numbers/{phone_number_id}"))

    def accepts_key(self) -> bool:
        """Tells whether the API knows the key."""
        return self._http.get("/v1/imports").status_code != httpx.codes.UNAUTHORIZED

    def imported_numbers(self) -> dict[str, str]:
        """Returns the ids of the phone numbers that are imported already."""
        answer = self._http.get("/v1/phone-numbers")
        if answer.is_error:
            return {}
        items = answer.json().get("items", ())
        return {number["phone_number"]: number["id"] for number in items}

    def check(self, phone_number_id: str) -> dict[str, Any]:
        """Returns the diagnosis of a number."""
        return self._document(self._http.post(f"/v1/phone-numbers/{phone_number_id}/check"))

    def repair(self, phone_number_id: str) -> dict[str, Any]:
        """Has a number put right; returns the number, or the job if it takes longer."""
        path = f"/v1/phone-numbers/{phone_number_id}/check"
        return self._document(self._http.post(path, params={"repair": True}, headers=_WAIT))

    def release(self, phone_number_id: str) -> Job:
        """Gives a number back; returns the job."""
        path = f"/v1/phone-numbers/{phone_number_id}"
        return self._document(self._http.delete(path, headers=_WAIT))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def _document(answer: httpx.Response) -> dict[str, Any]:
        if answer.is_error:
            raise StackError(
                f"{answer.request.method} {answer.request.url.path} was answered "
                f"{answer.status_code}: {answer.text}"
            )
        document: dict[str, Any] = answer.json()
        return document
