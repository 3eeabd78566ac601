"""Flower as an operator uses it: logs in, searches an import, opens its steps, finds no secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import httpx
import pytest
from playwright.sync_api import Error, Page, expect

from tests.browser.conftest import Open
from tests.rig import FAST, FOREIGN_URL, TOKEN, Customer, Rig, eventually, running
from worker.domain.job import StepName

SIP_PASSWORD: Final = "planted-sip-password"
PIN: Final = "8675309"
_ENDED: Final = {"SUCCESS", "FAILURE"}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(env={**FAST, "TRUNKLINE_RESEND_AFTER_SECONDS": "30"}) as rig:
        login = (rig.stack.flower_user, rig.stack.flower_password)
        with httpx.Client(base_url=rig.stack.flower_url, auth=login, trust_env=False) as flower:
            # Flower tells only of what happened after it had connected.
            eventually(lambda: "worker1@" in flower.get("/workers").text)
        yield rig


def secret_customer(rig: Rig, *, owns: bool = True) -> Customer:
    sip = {"address": "sip.example.com", "username": "planted-user", "password": SIP_PASSWORD}
    return rig.customer(owns=owns, sip=sip, inbound={"pin": PIN})


def finished(rig: Rig, customer: Customer, status: str) -> str:
    import_id: str = rig.submit(customer)["id"]
    assert rig.wait([import_id])[import_id]["status"] == status
    # Events come together, a tenth of a second late.
    eventually(lambda: _ended_in_flower(rig, import_id))
    return import_id


def _ended_in_flower(rig: Rig, import_id: str) -> bool:
    login = (rig.stack.flower_user, rig.stack.flower_password)
    with httpx.Client(base_url=rig.stack.flower_url, auth=login, trust_env=False) as flower:
        tasks = flower.get("/api/tasks", params={"search": f"args:{import_id}"}).json().values()
    return bool(tasks) and all(task["state"] in _ENDED for task in tasks)


@pytest.fixture
def operator(rig: Rig, open_page: Open) -> Page:
    stack = rig.stack
    login = {"username": stack.flower_user, "password": stack.flower_password}
    page = open_page(f"{stack.flower_url}/tasks", http_credentials=login)
    expect(page.locator("#tasks-table")).to_be_visible()
    return page


def search(page: Page, query: str) -> None:
    box = page.get_by_role("searchbox")
    box.fill(query)
    box.press("Enter")


def tells_nothing(page: Page, customer: Customer) -> None:
    seen = page.content()
    planted = {TOKEN, SIP_PASSWORD, PIN, FOREIGN_URL, "sandbox-planted-query", customer.number}
    assert {one for one in planted if one in seen} == set()


def test_without_the_password_there_is_nothing_to_see(rig: Rig, open_page: Open) -> None:
    page = open_page("about:blank")
    for path in ("/", "/tasks", "/workers", "/api/tasks"):
        with pytest.raises(Error, match="ERR_"):
            page.goto(f"{rig.stack.flower_url}{path}")
        assert page.request.get(f"{rig.stack.flower_url}{path}").status == 401


def test_an_import_is_found_by_its_id_step_by_step(
    rig: Rig, operator: Page, picture: Callable[[Page, str], None]
) -> None:
    customer, other = secret_customer(rig), secret_customer(rig)
    refused = {"action": "status", "status": 503, "times": 4}
    rig.fault(account=customer.sid, step="check_ownership", **refused)
    import_id, foreign = finished(rig, customer, "active"), finished(rig, other, "active")

    search(operator, f"args:{import_id}")

    rows = operator.locator("#tasks-table tbody tr")
    for step in StepName:
        row = rows.filter(has_text=f"imports.{step}")
        expect(row).to_contain_text("SUCCESS")
        expect(row).to_contain_text(import_id)
    # Those alone, and what begins them.
    expect(rows.filter(has_not_text=import_id)).to_have_count(0)
    assert foreign not in operator.content()
    # Whether it was tried again is told in the list.
    expect(rows.filter(has_text="imports.check_ownership")).to_contain_text("provider_unavailable")
    operator.set_viewport_size({"width": 1180, "height": 750})
    picture(operator, "flower")
    tells_nothing(operator, customer)

    for step in StepName:
        rows.filter(has_text=f"imports.{step}").locator("a[href*='/task/']").click()
        details = operator.locator("#task-page")
        expect(details).to_contain_text(f"imports.{step}")
        expect(details).to_contain_text(import_id)
        tells_nothing(operator, customer)
        operator.go_back()


def test_a_failed_step_names_its_code_and_nothing_of_our_code(rig: Rig, operator: Page) -> None:
    customer = secret_customer(rig, owns=False)
    import_id = finished(rig, customer, "failed")

    search(operator, f"state:FAILURE args:{import_id}")

    rows = operator.locator("#tasks-table tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("number_not_owned")
    rows.locator("a[href*='/task/']").click()
    details = operator.locator("#task-page")
    expect(details).to_contain_text("imports.check_ownership")
    expect(details).to_contain_text("FAILURE")
    expect(details).to_contain_text("number_not_owned: The provider account does not own this")
    expect(details).not_to_contain_text('File "')
    tells_nothing(operator, customer)


def test_nobody_stops_a_worker_from_here(rig: Rig, operator: Page) -> None:
    operator.get_by_role("link", name="Workers").first.click()
    expect(operator.locator("body")).to_contain_text("worker1@")
    login = (rig.stack.flower_user, rig.stack.flower_password)
    with httpx.Client(base_url=rig.stack.flower_url, auth=login, trust_env=False) as flower:
        for path in ("/api/worker/shutdown/worker1@x", "/api/task/send-task/imports.start"):
            assert flower.post(path, json={"args": []}).status_code == 403, path
