"""Alert rules and dashboard: they hang together with the code and the runbook."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.programs import program
from worker import metrics
from worker.domain.errors import BY_CODE

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RUNBOOK: Final = (DEPLOY / "README.md").read_text()
RULES: Final[list[dict[str, Any]]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PANELS: Final[list[dict[str, Any]]] = json.loads((DEPLOY / "grafana/trunkline.json").read_text())[
    "panels"
]


def anchors(markdown: str) -> Iterator[str]:
    """The anchor of each heading, as GitHub makes it."""
    for heading in re.findall(r"^#+ (.+)$", markdown, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_has_its_paragraph_and_its_row_in_the_runbook(rule: dict[str, Any]) -> None:
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert page == "deploy/README.md"
    assert anchor in set(anchors(RUNBOOK))
    assert f"| `{rule['alert']}` |" in RUNBOOK
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]


def test_the_runbook_lists_no_alert_that_there_is_not() -> None:
    listed = set(re.findall(r"^\| `(Trunkline\w+)` \|", RUNBOOK, re.MULTILINE))
    assert listed == {rule["alert"] for rule in RULES}


def test_alerts_are_about_error_codes_that_there_are() -> None:
    asked = [re.findall(r'error_code=~"([^"]+)"', rule["expr"]) for rule in RULES]
    codes = {code for found in asked for text in found for code in text.split("|")}
    assert codes == {*metrics.OURS, "undo_failed"}
    assert codes - {metrics.OTHER} <= BY_CODE.keys()


def test_the_dashboards_panels_are_whole_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def promtool(*arguments: str, within: Path) -> None:
    done = subprocess.run(  # noqa: S603 -- our own arguments
        [program("promtool"), *arguments],
        cwd=within,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_the_rules_and_they_tell_what_is_wrong(arguments: tuple[str, ...]) -> None:
    promtool(*arguments, within=DEPLOY / "prometheus")


def test_prometheus_takes_the_dashboards_queries(tmp_path: Path) -> None:
    queries = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
    chosen = {"$__rate_interval": "5m", "$__range": "6h", "$provider": ".*"}
    for name, value in chosen.items():
        queries = [query.replace(name, value) for query in queries]
    rules = [{"record": f"panel:{place}", "expr": query} for place, query in enumerate(queries)]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", "panels.yml", within=tmp_path)
