"""The registry: one line a provider."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from worker.domain.values import ProviderName
from worker.providers._core import Credentials, Provider
from worker.providers.plivo import Plivo
from worker.providers.sip import Sip
from worker.providers.telnyx import Telnyx
from worker.providers.twilio import Twilio

PROVIDERS: Final = MappingProxyType[ProviderName, type[Provider]](
    {
        ProviderName.TWILIO: Twilio,
        ProviderName.SIP: Sip,
        ProviderName.PLIVO: Plivo,
        ProviderName.TELNYX: Telnyx,
    }
)
assert PROVIDERS.keys() == set(ProviderName), "a provider has no adapter"

__all__ = ["PROVIDERS", "Credentials", "Provider"]
