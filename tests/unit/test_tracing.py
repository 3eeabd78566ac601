"""Traces are off unless configured, cost nothing then, and name nothing that is not ours."""

from __future__ import annotations

import os
import subprocess
import sys
from uuid import UUID

import pytest

from worker import tracing

TRACE = UUID("0193a1b2c3d47e8f9a0b1c2d3e4f5a6b")


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/2010-04-01/Accounts/AC0123456789abcdef/IncomingPhoneNumbers.json",) * 1
        + ("/2010-04-01/Accounts/{id}/IncomingPhoneNumbers.json",),
        (
            "/2010-04-01/Accounts/AC01/SIP/CredentialLists.json",
            "/2010-04-01/Accounts/{id}/SIP/CredentialLists.json",
        ),
        ("/v1/Trunks/TK0123/OriginationUrls", "/v1/Trunks/{id}/OriginationUrls"),
        ("/v2/phone_numbers/1293384261075731499/voice", "/v2/phone_numbers/{id}/voice"),
        ("/v2/fqdn_connections/+14155550100", "/v2/fqdn_connections/{id}"),
        ("/v1/Account/MAABCDEFGHIJKLMNOPQR/Number/14155550100/", "/v1/Account/{id}/Number/{id}/"),
        ("/twirp/livekit.SIP/CreateSIPInboundTrunk", "/twirp/livekit.SIP/CreateSIPInboundTrunk"),
        ("/v1/Zentrunk/Trunk/6f2d1a3e-aaaa-bbbb-cccc-ddddeeeeffff/", "/v1/Zentrunk/Trunk/{id}/"),
        ("", ""),
    ],
)
def test_a_route_names_no_account_and_no_number(path: str, route: str) -> None:
    assert tracing.route_of(path) == route


def test_a_jobs_trace_has_the_jobs_id() -> None:
    root = tracing.root_of(TRACE)
    assert f"{root.trace_id:032x}" == TRACE.hex
    assert f"{root.span_id:016x}" == TRACE.hex[16:]
    assert root.trace_flags.sampled


def process(script: str, **environment: str) -> str:
    """Returns what a fresh Python prints, errors included."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(  # noqa: S603 -- our own script
        [sys.executable, "-c", script],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


SHOW = """
import sys
from worker import tracing
import os
tracing.configure(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"), service="trunkline-worker")
print("sdk" if any(name.startswith("opentelemetry") for name in sys.modules) else "nothing")
print(tracing.receive("").__class__.__name__)
"""


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
    ],
    ids=["unset", "disabled"],
)
def test_off_it_imports_nothing(environment: dict[str, str]) -> None:
    assert process(SHOW, **environment).split() == ["nothing", "nullcontext"]


def test_without_the_extra_it_says_what_to_install_and_goes_on() -> None:
    missing = "import sys; sys.modules['opentelemetry.exporter'] = None\n"
    said = process(missing + SHOW, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert "install trunkline[otel]" in said
    assert said.split()[-1] == "nullcontext"


def test_a_collector_that_is_away_does_not_hold_up_the_end() -> None:
    script = """
import time, uuid
from worker import tracing
import os
tracing.configure(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"), service="trunkline-worker")
done = {"step": "s", "undo": False, "number": 1, "provider": "p", "outcome": lambda: "done"}
with tracing.attempt(uuid.uuid4(), **done):
    pass
print("ended")
"""
    said = process(
        script + "import atexit\nbegun = time.monotonic()\n"
        "atexit._run_exitfuncs()\nprint('prompt' if time.monotonic() - begun < 4 else 'late')",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )
    assert "ended" in said
    assert "prompt" in said


@pytest.mark.parametrize(
    "traceparent", ["", "00-zz-zz-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é" * 300]
)
def test_a_traceparent_that_is_none_links_nothing(traceparent: str) -> None:
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 -- only here
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
        InMemorySpanExporter,
    )

    kept = InMemorySpanExporter()
    provider, processor = TracerProvider(shutdown_on_exit=False), SimpleSpanProcessor(kept)
    provider.add_span_processor(processor)
    traces = tracing.Traces(provider, processor)
    request = tracing.Request(traceparent)
    traces.request(request, TRACE, route="/v1/imports", method="POST", status=202)
    (span,) = kept.get_finished_spans()
    assert span.links == ()
    assert span.context.trace_id == TRACE.int


def test_a_request_about_many_jobs_is_shown_in_a_hundred_traces_at_the_most() -> None:
    with tracing._receiving("") as request:
        for number in range(500):
            tracing.note_job(UUID(int=number))
    assert len(request.jobs) == 100
