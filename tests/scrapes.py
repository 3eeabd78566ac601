"""What Prometheus is told, for tests: read as Prometheus reads it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

#: What each kind of metric is called in queries, beside its own name.
_PARTS: Final = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
#: Names of ours, and those of a process or of Prometheus that we use.
_NAMES: Final = re.compile(r"\b(?:trunkline_[a-z_]+|process_[a-z_]+|up)\b(?!\s*[=!~])")


def total(scrapes: Iterable[str], name: str, **labels: str) -> float:
    """Returns the sum of the series of a name that have these labels."""
    return sum(
        sample.value
        for scrape in scrapes
        for family in text_string_to_metric_families(scrape)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def names(scrape: str) -> set[str]:
    """Returns every name that a query may use, also of metrics that have no series yet."""
    found = set()
    for family in text_string_to_metric_families(scrape):
        found |= {sample.name for sample in family.samples}
        found |= {family.name + part for part in _PARTS.get(family.type, ("",))}
    return found


def asked(query: str) -> set[str]:
    """Returns the names of the metrics that a query in PromQL asks for."""
    return set(_NAMES.findall(re.sub(r'"[^"]*"', '""', query)))
