"""What is served of the status page; what it does is asked in tests/browser."""

from __future__ import annotations

import re

import pytest

from tests.integration.api.conftest import Platform, Tenant, problem

PARTS = {
    "/": "text/html",
    "/page/status.css": "text/css",
    "/page/status.js": "text/javascript",
    "/page/icon.svg": "image/svg+xml",
}


@pytest.mark.parametrize(("path", "media_type"), PARTS.items())
def test_every_part_is_ours_and_needs_no_key(
    platform: Platform, path: str, media_type: str
) -> None:
    stranger = platform.client()
    answer = stranger.get(path)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].partition(";")[0] == media_type
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    # Nothing of others, and nothing that the policy would have to allow.
    addresses = set(re.findall(r"https?://[^\s\"']+", answer.text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", answer.text)
    head = stranger.head(path)
    assert (head.status_code, head.content) == (200, b"")
    problem(stranger.post(path), 405, "method_not_allowed")


def test_the_page_may_run_and_ask_nothing_but_ours(tenant: Tenant) -> None:
    policy = tenant.http.get("/").headers["Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))

    assert rules.pop("default-src") == "'none'"
    assert {name for name, value in rules.items() if value == "'self'"} == {
        *("script-src", "style-src", "img-src", "connect-src"),
    }
    assert {name for name, value in rules.items() if value == "'none'"} == {
        *("base-uri", "form-action", "frame-ancestors", "trusted-types"),
    }
    assert rules["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/page", "/page/", "/page/../app.py", "/page/status.html"])
def test_nothing_else_of_its_folder_is_served(tenant: Tenant, path: str) -> None:
    problem(tenant.http.get(path), 404, "not_found")
