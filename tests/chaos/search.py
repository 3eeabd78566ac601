"""Looks for secrets in text, also where they are encoded or part of something longer."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Final

#: Everything that a secret, or a form of it, can be written in without a break.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_+/=%-]{8,}")
_WORD: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHORTEST: Final = 8
#: How deep encodings may lie in each other: base64 of a header in base64 of a message.
_DEPTH: Final = 2


class Search:
    """Finds planted secrets by what they begin with, and others by their exact text.

    Each is looked for as it is, in base64, in hexadecimal, percent-encoded, and within any of them.
    """

    def __init__(self, marker: str, secrets: Mapping[str, str] | None = None) -> None:
        """``secrets`` are secret → what it is called in a finding."""
        self._marker = re.compile(re.escape(marker) + r"-[a-z]+")
        #: The longest unbroken part of each secret, by its length.
        self._parts: dict[int, dict[str, str]] = {}
        for secret, name in (secrets or {}).items():
            part = max(_WORD.findall(secret), key=len, default="")
            if len(part) < _SHORTEST:
                msg = f"{name} is too short to be told from other text"
                raise ValueError(msg)
            self._parts.setdefault(len(part), {})[part] = name
        self._seen: set[int] = set()

    def find(self, text: str) -> set[str]:
        """Returns the names of the secrets in a text; never the secrets."""
        return self._find(text, _DEPTH)

    def _find(self, text: str, depth: int) -> set[str]:
        found = set(self._marker.findall(text))
        for token in _TOKEN.findall(text):
            # The same words come again and again; what was found in them was told, too.
            fingerprint = hash((token, depth))
            if fingerprint in self._seen:
                continue
            here = self._exact(token)
            for inner in _decoded(token) if depth else ():
                here |= self._find(inner, depth - 1)
            if here:
                found |= here
            else:
                self._seen.add(fingerprint)
        return found

    def _exact(self, token: str) -> set[str]:
        found = set()
        for word in _WORD.findall(token):
            for length, parts in self._parts.items():
                for start in range(len(word) - length + 1):
                    name = parts.get(word[start : start + length])
                    if name is not None:
                        found.add(name)
        return found


def _decoded(token: str) -> Iterator[str]:
    """Returns what a token may stand for."""
    if "%" in token:
        yield re.sub(r"%([0-9A-Fa-f]{2})", lambda two: chr(int(two[1], 16)), token)
    for plain in {token, token.lstrip("x")}:  # Postgres writes bytes as \x6162
        if len(plain) % 2 == 0 and re.fullmatch(r"[0-9A-Fa-f]+", plain):
            yield bytes.fromhex(plain).decode(errors="replace")
    for piece in token.replace("-", "+").replace("_", "/").split("="):
        # Whatever stands before it, a secret begins at one of four places.
        for start in range(min(4, len(piece) - _SHORTEST)):
            part = piece[start:]
            # One character alone is no byte.
            part = part[:-1] if len(part) % 4 == 1 else part
            try:
                plain_bytes = base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
            except (binascii.Error, ValueError):
                continue
            yield plain_bytes.decode(errors="replace")
