"""The status page: what the imports of an organisation are doing, for people.

Plain files that the API serves itself. The page holds nothing but what the public API tells whoever
types in a key: it has no session, no cookie and no route of its own behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response

router = APIRouter()

_FOLDER: Final = Path(__file__).parent
_HTML: Final = "text/html"
#: Path → file and media type.
_FILES: Final = {
    "/": ("status.html", _HTML),
    "/page/status.css": ("status.css", "text/css"),
    "/page/status.js": ("status.js", "text/javascript"),
    "/page/icon.svg": ("icon.svg", "image/svg+xml"),
}
#: Our own files and our own API alone. No script, style or address that came in with a name or a
#: vendor's message can do anything, and what would make HTML of a string is an error.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def _file(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    headers = {"Cross-Origin-Resource-Policy": "same-origin"}
    if media_type == _HTML:
        headers |= {"Content-Security-Policy": _POLICY, "Cross-Origin-Opener-Policy": "same-origin"}

    async def serve(_request: Request) -> Response:
        return Response(content, media_type=media_type, headers=headers)

    return serve


for _path, (_name, _media_type) in _FILES.items():
    router.add_route(
        _path,
        _file((_FOLDER / _name).read_bytes(), _media_type),
        methods=["GET"],
        name=_name,
        include_in_schema=False,
    )
