"""The webhooks that vendors request: who is asked, with what, and what came back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

FORM_TYPE: Final = "application/x-www-form-urlencoded"
#: A TwiML document is far below this; nobody's answer may fill the memory.
_MAX_ANSWER_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A URL and the method that it is requested with."""

    url: str
    method: str = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One request as it is signed and sent."""

    method: str
    #: The public URL; for a GET with the parameters in its query.
    url: str
    #: The fields of a form body; empty for everything else.
    form: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    content_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    #: The URL is not one of those that lead to a server here: somebody else's system.
    foreign: bool = False
    #: None if nothing came back.
    status: int | None = None
    content_type: str = ""
    body: bytes = b""
    #: Why nothing came back.
    problem: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether it is a 2xx."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own borders


Signer = Callable[[Outgoing], Mapping[str, str]]


class Web:
    """Requests webhooks for one call or message and keeps a step of each.

    A public URL whose scheme and host are mapped is requested there, with the public name in its
    Host header; what is not mapped is a foreign system, which is noted and not requested.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        public_urls: Mapping[str, str],
        steps: list[dict[str, object]],
        *,
        signer: Signer,
        user_agent: str,
        timeout_seconds: float,
    ) -> None:
        self._session = session
        self._public_urls = public_urls
        self._steps = steps
        self._signer = signer
        self._user_agent = user_agent
        self._timeout_seconds = timeout_seconds

    async def ask(self, purpose: str, hook: Hook, fields: Mapping[str, str]) -> Reply:
        """Sends a form, or for a GET the same in the query."""
        given = tuple(fields.items())
        if hook.method.upper() == "GET":
            joint = "&" if urlsplit(hook.url).query else "?"
            request = Outgoing(method="GET", url=f"{hook.url}{joint}{urlencode(given)}")
        else:
            request = Outgoing(
                method="POST",
                url=hook.url,
                form=given,
                body=urlencode(given).encode(),
                content_type=f"{FORM_TYPE}; charset=UTF-8",
            )
        return await self._send(purpose, request, shown_url=hook.url)

    async def tell(self, purpose: str, url: str, document: Mapping[str, object]) -> Reply:
        """Sends a JSON document."""
        request = Outgoing(
            method="POST",
            url=url,
            body=json.dumps(document).encode(),
            content_type="application/json",
        )
        return await self._send(purpose, request, shown_url=url)

    async def _send(self, purpose: str, request: Outgoing, *, shown_url: str) -> Reply:
        step: dict[str, object] = {
            "kind": "webhook",
            "purpose": purpose,
            "method": request.method,
            "url": shown_url,
        }
        self._steps.append(step)
        reply = await self._exchange(request)
        step |= {"foreign": reply.foreign, "status": reply.status}
        if reply.problem:
            step["problem"] = reply.problem
        return reply

    async def _exchange(self, request: Outgoing) -> Reply:
        parts = urlsplit(request.url)
        base = self._public_urls.get(f"{parts.scheme}://{parts.netloc}".lower())
        if base is None:
            return Reply(foreign=True)
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        headers = {
            "Host": parts.netloc,
            "User-Agent": self._user_agent,
            "Accept": "*/*",
            **self._signer(request),
        }
        if request.content_type:
            headers["Content-Type"] = request.content_type
        try:
            # No redirect is followed: what a vendor sends to the second URL, and how it signs
            # that, is not documented well enough to be played.
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.request(
                    request.method,
                    URL(f"{base}{path}", encoded=True),
                    data=request.body or None,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                return Reply(
                    status=response.status,
                    content_type=response.headers.get("Content-Type", ""),
                    body=await response.content.read(_MAX_ANSWER_BYTES),
                )
        except TimeoutError:
            return Reply(problem=f"no answer within {self._timeout_seconds:g} s")
        except aiohttp.ClientError as error:
            return Reply(problem=f"no connection: {type(error).__name__}")
