"""What operators see of a stack at work: its metrics, and one trace a job.

One stack for all: the jobs are done first, each test looks at what they left.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.receiver import Received, Receiver, Told, receiving
from tests.rig import FAST, TOKEN, Rig, eventually, running
from tests.scrapes import asked, names, total
from tests.vendors import VENDORS, order_of
from worker.domain.job import StepName

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
#: A caller's own trace, as W3C Trace Context writes it.
CALLERS_TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
CALLER: Final = {"traceparent": f"00-{CALLERS_TRACE}-b7ad6b7169203331-01"}
#: Of the tenant's name, of foreign URLs and of ids.
WORDS: Final = ("Acme", "acme", "planted", "example.com", "org_", "pn-", "Bearer", "Basic")
#: What a process that lives for years may have at the most.
MOST_SERIES: Final = 1500


@dataclass
class Spans:
    """A collector: what it was sent, read as such."""

    receiver: Receiver
    received: list[tuple[str, Span]] = field(default_factory=list)

    def take(self, request: Received) -> Told:
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            said = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.received += [
                (said["service.name"], span)
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return Told(headers={"Content-Type": "application/x-protobuf"})

    def of(self, import_id: str) -> list[tuple[str, Span]]:
        """Returns the spans of a job's trace with the service that sent each, in order of time."""
        trace = import_id.removeprefix("imp_")
        found = [one for one in self.received if one[1].trace_id.hex() == trace]
        return sorted(found, key=lambda one: one[1].start_time_unix_nano)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Jobs that have ended, and what was told of them."""

    #: Numbers, accounts and secrets that nobody may be told.
    hidden: Sequence[str]
    #: What each was to show → its id.
    jobs: Mapping[str, str]
    statuses: Mapping[str, str]
    api: str
    worker: str
    beat: str

    @property
    def scrapes(self) -> tuple[str, ...]:
        return self.api, self.worker, self.beat


@pytest.fixture(scope="module")
def spans() -> Iterator[Spans]:
    with receiving() as receiver:
        spans = Spans(receiver)
        receiver.script = spans.take
        yield spans


@pytest.fixture(scope="module")
def rig(spans: Spans) -> Iterator[Rig]:
    endpoint = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{spans.receiver.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with running(without={"flower"}, env={**FAST, **endpoint}) as rig:
        yield rig


def scrape(rig: Rig, name: str) -> str:
    url = rig.stack.metrics_urls.get(name, f"{rig.stack.api_url}/metrics")
    return httpx.get(url, trust_env=False, timeout=10).raise_for_status().text


@pytest.fixture(scope="module")
def scene(rig: Rig) -> Scene:
    customers = {
        "active": rig.customer(),
        "refused": rig.customer(owns=False),
        "retried": rig.customer(),
        "limited": rig.customer(),
        "undone": rig.customer(mode="sip_trunk"),
    }
    accounts = {name: customer.sid for name, customer in customers.items()}
    # As often as one attempt asks.
    rig.fault(
        account=accounts["retried"], step="check_ownership", action="status", status=503, times=3
    )
    rig.fault(account=accounts["limited"], nth=1, action="status", status=429, retry_after=2)
    rig.fault(
        account=accounts["undone"], step="route_number", write=True, action="status", status=400
    )
    jobs = {
        name: rig.submit(customer, **(CALLER if name == "active" else {}))["id"]
        for name, customer in customers.items()
    }
    orders = [order_of(rig, vendor, "sip_trunk") for vendor in VENDORS if vendor.name != "twilio"]
    for order in orders:
        jobs[order.vendor] = rig.api.post("/v1/imports", json=order.body).json()["id"]
    ended = rig.wait(jobs.values())
    numbers = [one.number for one in customers.values()] + [one.number for one in orders]
    secrets = [secret for order in orders for secret in order.body["credentials"].values()]
    key = rig.api.headers["Authorization"].removeprefix("Bearer ")
    return Scene(
        hidden=[
            *(number.lstrip("+") for number in numbers),
            *accounts.values(),
            *secrets,
            TOKEN,
            key,
            *WORDS,
        ],
        jobs=jobs,
        statuses={name: ended[import_id]["status"] for name, import_id in jobs.items()},
        api=scrape(rig, "api"),
        worker=scrape(rig, "worker1"),
        beat=scrape(rig, "beat"),
    )


def test_jobs_are_counted_by_how_they_end(scene: Scene) -> None:
    def ended(state: str, code: str) -> float:
        labels = {"kind": "import", "provider": "twilio", "state": state, "error_code": code}
        return total([scene.worker], "trunkline_jobs_ended_total", **labels)

    assert {name for name, status in scene.statuses.items() if status == "failed"} == {
        "refused",
        "undone",
    }
    assert ended("active", "none") == 3
    for provider in ("telnyx", "plivo"):
        labels = {"provider": provider, "state": "active"}
        assert total([scene.worker], "trunkline_jobs_ended_total", **labels) == 1
    assert ended("failed", "number_not_owned") == 1
    assert ended("failed", "webhook_setup_failed") == 1
    assert total([scene.worker], "trunkline_job_seconds_count", state="active") == 5
    assert 0 < total([scene.worker], "trunkline_job_seconds_sum", state="active") < 60
    assert total([scene.api], "trunkline_submits_total", provider="twilio") == 5
    assert total([scene.api], "trunkline_jobs_ended_total") == 0


def test_steps_are_timed_by_outcome_and_attempts_that_are_repeated_counted(scene: Scene) -> None:
    def attempts(**labels: str) -> float:
        return total([scene.worker], "trunkline_step_seconds_count", **labels)

    for step in StepName:
        assert attempts(step=step, direction="forward", outcome="done") >= 3
    owned = {"step": "check_ownership", "direction": "forward"}
    assert attempts(**owned, outcome="provider_unavailable") == 1
    assert attempts(**owned, outcome="number_not_owned") == 1
    assert attempts(step="provision_trunks", direction="undo", outcome="done") == 1
    retries = "trunkline_step_retries_total"
    assert total([scene.worker], retries, **owned, error_code="provider_unavailable") == 1
    assert total([scene.worker], retries) == 2, "the other one is the rate limit's"


def test_calls_to_vendors_are_counted_by_outcome(rig: Rig, scene: Scene) -> None:
    def calls(vendor: str, outcome: str) -> float:
        name = "trunkline_vendor_call_seconds_count"
        return total([scene.worker], name, vendor=vendor, outcome=outcome)

    assert calls("twilio", "failed") == 3
    assert calls("twilio", "rate_limited") == 1
    assert calls("twilio", "refused") == 1
    journal = [one for import_id in scene.jobs.values() for one in rig.journal(import_id)]
    for vendor in ("twilio", "telnyx", "plivo", "livekit"):
        seen = total([scene.worker], "trunkline_vendor_call_seconds_count", vendor=vendor)
        assert seen == sum(one["vendor"] == vendor for one in journal)


def test_a_rate_limit_is_a_wait_and_no_rescue(scene: Scene) -> None:
    waits = "trunkline_rate_limit_wait_seconds"
    assert total([scene.worker], f"{waits}_count", provider="twilio") == 1
    assert total([scene.worker], f"{waits}_sum", provider="twilio") == 2
    assert total([scene.worker], "trunkline_sweep_rescues_total") == 0


def test_the_api_tells_what_database_and_broker_hold(scene: Scene) -> None:
    told = [scene.api]
    assert total(told, "trunkline_database_up") == total(told, "trunkline_broker_up") == 1
    assert total(told, "trunkline_jobs") == 0
    assert 0 <= total(told, "trunkline_sweep_age_seconds") < 10
    assert 'trunkline_queue_messages{queue="imports.twilio"}' in scene.api
    assert total([scene.beat], "trunkline_beat_sent_timestamp_seconds") > 1.7e9


def test_no_scrape_names_a_tenant_a_number_or_a_secret(scene: Scene) -> None:
    told = "\n".join(scene.scrapes)
    for secret in (*scene.hidden, "imp_"):
        assert secret not in told


def test_there_are_never_many_series(scene: Scene) -> None:
    for told in scene.scrapes:
        assert sum(not line.startswith("#") for line in told.splitlines()) < MOST_SERIES


def test_dashboard_and_alerts_ask_for_metrics_that_there_are(scene: Scene) -> None:
    known = {"up"}.union(*(names(told) for told in scene.scrapes))
    dashboard = json.loads((DEPLOY / "grafana/trunkline.json").read_text())
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    queries += [one["query"]["query"] for one in dashboard["templating"]["list"][1:]]
    queries += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    assert len(queries) > 40
    for query in queries:
        assert asked(query), query
        assert asked(query) <= known, query


def test_one_trace_holds_a_job_from_its_submit_to_the_vendors(
    rig: Rig, scene: Scene, spans: Spans
) -> None:
    import_id = scene.jobs["active"]
    tree = traced(spans, import_id)
    (root,) = (span for span in tree.values() if not span.parent_span_id)
    assert root.name == "import"
    assert root.trace_id.hex() == import_id.removeprefix("imp_")
    within = [span for span in tree.values() if span.parent_span_id == root.span_id]
    assert [span.name for span in within] == ["POST /v1/imports", *StepName]
    (link,) = within[0].links
    assert link.trace_id.hex() == CALLERS_TRACE
    services = {service for service, _ in spans.of(import_id)}
    assert services == {"trunkline-api", "trunkline-worker"}
    calls = [span for span in tree.values() if span.kind == Span.SPAN_KIND_CLIENT]
    assert len(calls) == len(rig.journal(import_id))
    for call in calls:
        assert tree[call.parent_span_id].name in set(StepName)
        assert said(call)["http.response.status_code"] in (200, 201, 204)
    assert {said(call)["trunkline.vendor"] for call in calls} == {"twilio", "livekit"}


def test_a_retry_and_an_undo_stay_in_the_trace(scene: Scene, spans: Spans) -> None:
    tree = traced(spans, scene.jobs["retried"])
    first, second = (span for span in tree.values() if span.name == "check_ownership")
    assert said(first)["error.type"] == "provider_unavailable"
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert (said(first)["trunkline.attempt"], said(second)["trunkline.attempt"]) == (1, 2)
    assert second.status.code == Status.STATUS_CODE_UNSET
    failed = [span for span in tree.values() if span.parent_span_id == first.span_id]
    assert [said(span)["http.response.status_code"] for span in failed] == [503] * 3

    undone = traced(spans, scene.jobs["undone"])
    ways = [str(span.name) for span in undone.values() if span.name.endswith(".undo")]
    assert ways[0] == "route_number.undo"
    assert ways[-1] == "validate_credentials.undo"


@pytest.mark.parametrize("vendor", ["telnyx", "plivo"])
def test_every_vendors_calls_are_in_the_trace(
    rig: Rig, scene: Scene, spans: Spans, vendor: str
) -> None:
    import_id = scene.jobs[vendor]
    calls = [
        span for span in traced(spans, import_id).values() if span.kind == Span.SPAN_KIND_CLIENT
    ]
    assert len(calls) == len(rig.journal(import_id))
    assert {said(call)["trunkline.vendor"] for call in calls} == {vendor, "livekit"}


def test_no_span_names_a_tenant_a_number_or_a_secret(scene: Scene, spans: Spans) -> None:
    for import_id in scene.jobs.values():
        traced(spans, import_id)
    # All but the ids, whose bytes may look like anything.
    told = "\n".join(
        f"{span.name} {said(span)} {span.status} {span.events}" for _, span in spans.received
    )
    assert "url.template" in told
    for secret in (*scene.hidden, "imp_", "?", "+1"):
        assert secret not in told


@pytest.mark.timeout(90)
def test_a_rescue_goes_on_in_the_trace_and_is_counted(rig: Rig, scene: Scene, spans: Spans) -> None:
    del scene  # its counts are the worker's that dies here
    customer = rig.customer()
    rig.fault(account=customer.sid, step="route_number", nth=1, action="hold", when="before")
    import_id = rig.submit(customer)["id"]
    eventually(lambda: len(rig.holds()) == 1)
    eventually(lambda: "create_dispatch_rule" in {span.name for _, span in spans.of(import_id)})
    (worker,) = rig.stack.workers
    worker.kill()
    rig.control("holds/release", {"proceed": False})
    worker.start()
    assert rig.wait([import_id])[import_id]["status"] == "active"
    tree = traced(spans, import_id)
    # The first attempt died with its span; what was done before is in the same trace.
    (routed,) = (span for span in tree.values() if span.name == "route_number")
    assert said(routed)["trunkline.attempt"] == 2
    assert {"POST /v1/imports", "import", *StepName} <= {span.name for span in tree.values()}
    assert total([scrape(rig, "worker1")], "trunkline_sweep_rescues_total") >= 1


def test_metrics_answer_without_database_and_broker_and_say_so(rig: Rig) -> None:
    rig.stack.redis.kill()
    rig.stack.postgres.kill()
    begun = time.monotonic()
    # What was asked for just before is told again for five seconds.
    eventually(lambda: total([scrape(rig, "api")], "trunkline_database_up") == 0)
    told = scrape(rig, "api")
    assert time.monotonic() - begun < 10, "no scrape waits for long"
    assert total([told], "trunkline_broker_up") == 0
    # What is not known is not shown, not even as it was before.
    for name in ("trunkline_jobs{", "trunkline_sweep_age_seconds ", "trunkline_queue_messages{"):
        assert name not in told


_LAST = {"persist_number", "validate_credentials.undo"}


def traced(spans: Spans, import_id: str) -> dict[bytes, Span]:
    """Returns a job's spans by id, in order of time, once the one that all are in has come."""

    def is_whole() -> bool:
        known = {span.span_id for _, span in spans.of(import_id)}
        parents = {span.parent_span_id for _, span in spans.of(import_id)}
        # The last attempt ends after the job has, and may be sent later.
        ended = {span.name for _, span in spans.of(import_id)} & _LAST
        return bool(ended) and b"" in parents and parents - {b""} <= known

    eventually(is_whole)
    found = {span.span_id: span for _, span in spans.of(import_id)}
    assert len(found) == len(spans.of(import_id)), "two spans have one id"
    return found


def said(span: Span) -> dict[str, Any]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in span.attributes
    }
