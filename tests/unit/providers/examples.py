"""Settings for tests of adapters."""

from __future__ import annotations

from worker.settings import Settings


def settings(**changes: object) -> Settings:
    """Returns settings that start without an environment; short limits, so that tests are short."""
    given: dict[str, object] = {
        "env": "development",
        "database_url": "postgresql://unused",
        "broker_url": "redis://unused",
        "vault_keys": "unused",
        "public_base_url": "https://voice.example.com",
        "connect_timeout_seconds": 1.0,
        "read_timeout_seconds": 1.0,
        "LIVEKIT_URL": "http://livekit.example.com",
        "LIVEKIT_API_KEY": "unused",
        "LIVEKIT_API_SECRET": "sandbox-secret-" * 3,
        "LIVEKIT_SIP_URI": "sip:project.sip.example.com",
    }
    return Settings.model_validate(given | changes)
