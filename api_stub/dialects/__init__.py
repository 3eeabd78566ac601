"""The published contracts of five platforms, each under /dialects/{name} and its own path.

A client written for one of them works against Trunkline when only its base URL changes. One module
a contract, one line here.
"""

from __future__ import annotations

from typing import Final

from api_stub.dialects import butter, nixflex, oneinbox, ravan, weya

#: Name → the router with the contract's own paths.
DIALECTS: Final = {
    "ravan": ravan.router,
    "butter": butter.router,
    "weya": weya.router,
    "nixflex": nixflex.router,
    "oneinbox": oneinbox.router,
}
