"""The status page as people use it: in a browser, with a keyboard, on a phone, on a bad day."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import DESKTOP, PHONE, Open
from tests.rig import FAST, Rig, running

#: A name as an attacker gives it; it may come back in an error of a vendor just as well.
HOSTILE: Final = "<img src=x onerror=\"document.title='taken'\">"
#: A script's way around text: the policy has to stop it.
_INJECT: Final = """() => {
    try { document.body.innerHTML += "<i></i>"; return "done" } catch { return "refused" }
}"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    # Held calls and waiting retries are looked at for a while.
    patience = {"TRUNKLINE_RETRY_SCALE": "1", "TRUNKLINE_LEASE_SECONDS": "60"}
    patience |= {"TRUNKLINE_READ_TIMEOUT_SECONDS": "30"}
    with running(without={"flower"}, env={**FAST, **patience}) as rig:
        yield rig


def key_of(rig: Rig) -> str:
    return rig.api.headers["Authorization"].removeprefix("Bearer ")


def enter(page: Page, key: str) -> None:
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Show imports").click()


def requests_of(page: Page) -> list[Request]:
    """Gets every request that the page makes from now on."""
    found: list[Request] = []
    page.on("request", lambda one: found.append(one))  # noqa: PLW0108 -- Playwright marks functions
    return found


@pytest.fixture
def show(rig: Rig, open_page: Open) -> Callable[..., Page]:
    def shown(**context: Any) -> Page:
        page = open_page(f"{rig.stack.api_url}/", **context)
        enter(page, key_of(rig))
        expect(page.get_by_role("heading", name="Jobs by state")).to_be_visible()
        return page

    return shown


def job(page: Page, number: str) -> Any:
    return page.locator("#jobs > li").filter(has_text=number)


def step(page: Page, number: str, name: str) -> Any:
    return job(page, number).locator(".step").filter(has_text=name)


def test_an_import_is_followed_live_by_keyboard_alone(rig: Rig, open_page: Open) -> None:
    customer = rig.customer(friendly_name="Front desk")
    rig.fault(account=customer.sid, step="route_number", write=True, action="hold", when="before")
    page = open_page(f"{rig.stack.api_url}/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the imports")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("API key")).to_be_focused()
    page.keyboard.type(key_of(rig))
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("Live")

    rig.submit(customer)

    # It appears, open, without a word of ours; what is under way is said.
    expect(job(page, customer.number)).to_contain_text("Front desk · twilio · import")
    expect(step(page, customer.number, "create_dispatch_rule")).to_contain_text("done")
    expect(step(page, customer.number, "route_number")).to_contain_text("running")
    expect(step(page, customer.number, "persist_number")).to_contain_text("waiting")
    expect(job(page, customer.number).get_by_role("img", name="5 of 7 steps done")).to_be_visible()
    active = int(page.locator("[data-state=active] dd").inner_text())
    expect(page.locator("[data-state=running] dd")).to_have_text("1")
    rig.control("holds/release", {"proceed": True})
    expect(job(page, customer.number).locator(".badge")).to_have_text("active")
    expect(page.locator("#news")).to_contain_text(f"import of {customer.number}: active")
    expect(page.locator("[data-state=active] dd")).to_have_text(str(active + 1))
    expect(page.locator("[data-state=running] dd")).to_have_text("0")

    # What an import did folds away and comes back; the focus stays where it is, and can be seen.
    summary = job(page, customer.number).locator("summary")
    page.get_by_role("button", name="Forget key").focus()
    page.keyboard.press("Tab")
    expect(summary).to_be_focused()
    assert summary.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    for visible in (False, True):
        page.keyboard.press("Enter")
        expect(step(page, customer.number, "persist_number")).to_be_visible(visible=visible)
        expect(summary).to_be_focused()


def test_a_retry_shows_its_attempts_its_error_and_when_it_goes_on(
    rig: Rig, show: Callable[..., Page], picture: Callable[[Page, str], None]
) -> None:
    held, customer = rig.customer(friendly_name="Sales, Berlin"), rig.customer(friendly_name="Fax")
    rig.fault(account=held.sid, step="route_number", write=True, action="hold", when="before")
    refused = {"action": "status", "status": 503, "times": 40}
    rig.fault(account=customer.sid, step="check_ownership", **refused)
    page = show()
    rig.submit(held)
    expect(step(page, held.number, "route_number")).to_contain_text("running")
    import_id = rig.submit(customer)["id"]
    waiting = step(page, customer.number, "check_ownership")
    expect(waiting).to_contain_text(re.compile(r"running, [2-9] attempts, next attempt in \d+ s"))
    expect(waiting).to_contain_text("provider_unavailable: The provider cannot be reached")
    expect(job(page, customer.number).locator(".elapsed")).to_have_text(re.compile(r"^\d+ s$"))
    # What is folded away leaves room for the others.
    job(page, held.number).locator("summary").click()
    expect(step(page, held.number, "route_number")).to_be_hidden()
    expect(waiting).to_contain_text(re.compile(r"next attempt in [2-9] s"))
    picture(page, "status-page")

    rig.api.post(f"/v1/imports/{import_id}/cancel")
    rig.control("holds/release", {"proceed": True})
    expect(job(page, customer.number).locator(".badge")).to_have_text("cancelled")
    expect(job(page, held.number).locator(".badge")).to_have_text("active")


def test_a_failure_says_why_and_names_are_nothing_but_text(
    rig: Rig, show: Callable[..., Page]
) -> None:
    customer = rig.customer(owns=False, friendly_name=HOSTILE)
    import_id = rig.submit(customer)["id"]
    rig.wait([import_id])
    page = show()
    failed = job(page, customer.number)

    expect(failed.locator(".badge")).to_have_text("failed")
    expect(failed.locator("summary .why")).to_contain_text(
        "number_not_owned: The provider account does not own this number."
    )
    expect(failed).to_contain_text(HOSTILE)
    failed.locator("summary").click()
    expect(failed.locator(".said")).to_contain_text("number_not_owned at check_ownership")
    expect(step(page, customer.number, "check_ownership")).to_contain_text("undone")
    expect(failed.get_by_text(import_id)).to_be_visible()
    assert page.locator("#jobs img, #jobs script").count() == 0
    assert page.title() == "Trunkline imports"


def test_no_string_can_become_html(rig: Rig, browser: Any) -> None:
    page = browser.new_page()
    page.goto(f"{rig.stack.api_url}/")

    assert page.evaluate(_INJECT) == "refused"
    page.close()


def test_the_key_is_nowhere_but_in_the_page_and_gone_with_it(rig: Rig, open_page: Open) -> None:
    page = open_page(f"{rig.stack.api_url}/")
    asked = requests_of(page)
    enter(page, key_of(rig))
    expect(page.locator("#connection")).to_have_text("Live")

    secret = key_of(rig).rpartition("_")[2]
    assert {"imports", "counts"} <= {one.url.partition("?")[0].rpartition("/")[2] for one in asked}
    assert not [one.url for one in asked if secret in one.url or "127.0.0.1" not in one.url]
    assert secret not in page.url
    assert page.context.cookies() == []
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]
    assert page.locator("#key").input_value() == ""
    assert secret not in page.content()

    page.reload()
    expect(page.get_by_label("API key")).to_be_visible()
    expect(page.locator("#board")).to_be_hidden()
    enter(page, key_of(rig))
    page.get_by_role("button", name="Forget key").click()
    expect(page.get_by_label("API key")).to_be_focused()
    assert page.locator("#jobs > li").count() == 0
    asked.clear()
    page.wait_for_timeout(3500)
    assert asked == [], "a page without a key asks nothing"


def test_a_wrong_key_is_refused_in_words_and_a_viewers_is_enough(rig: Rig, open_page: Open) -> None:
    page = open_page(f"{rig.stack.api_url}/")
    for wrong, said in (("tk_wrong", "Send a valid API key"), ("zwölf", "Enter an API key")):
        enter(page, wrong)
        expect(page.get_by_role("alert")).to_contain_text(said)
        expect(page.get_by_label("API key")).to_be_focused()
        expect(page.get_by_label("API key")).to_have_value("")
    made = rig.api.post("/v1/api-keys", json={"name": "wall", "role": "viewer"}).json()
    enter(page, made["key"])
    expect(page.locator("#connection")).to_have_text("Live")
    # And no longer, once it is revoked.
    rig.api.delete(f"/v1/api-keys/{made['id']}").raise_for_status()
    expect(page.get_by_role("alert")).to_contain_text("Send a valid API key")
    expect(page.locator("#board")).to_be_hidden()


def test_an_organisation_without_imports_is_told_how_to_begin(rig: Rig, open_page: Open) -> None:
    page = open_page(f"{rig.stack.api_url}/")
    enter(page, rig.stack.bootstrap("Empty")["api_key"])

    expect(page.get_by_text("There are no imports yet")).to_be_visible()
    assert set(page.locator(".tile dd").all_inner_texts()) == {"0"}


def test_while_the_api_is_away_it_says_so_and_comes_back_by_itself(
    rig: Rig, show: Callable[..., Page]
) -> None:
    customer = rig.customer()
    rig.wait([rig.submit(customer)["id"]])
    page = show()
    expect(job(page, customer.number).locator(".badge")).to_have_text("active")
    rig.stack.api.kill()
    try:
        expect(page.locator("#trouble")).to_contain_text("The API does not answer.")
        expect(page.locator("#news")).to_contain_text("The API does not answer")
        expect(page.locator("#connection")).to_contain_text("Trying again in")
        # What was known stays to be read.
        expect(job(page, customer.number)).to_be_visible()
        tries = requests_of(page)
        page.wait_for_timeout(4000)
        # Two requests a try; at the pace of a good day there would be a try a second at most.
        assert 2 <= len(tries) <= 6
    finally:
        rig.stack.api.start()
    expect(page.locator("#connection")).to_have_text("Live", timeout=30_000)
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.locator("#news")).to_have_text("The API answers again.")


def test_it_waits_as_long_as_whoever_stands_before_the_api_says(
    show: Callable[..., Page],
) -> None:
    page = show()
    page.clock.install()
    # No read of ours is counted: this is what a proxy would answer.
    slow = {"status": 429, "headers": {"Retry-After": "40"}, "body": "<h1>Slow down</h1>"}
    page.route("**/v1/**", lambda route: route.fulfill(**slow))
    expect(page.locator("#trouble")).to_contain_text("The API asks us to slow down.")
    expect(page.locator("#connection")).to_have_text(re.compile(r"Trying again in (40|39) s"))
    page.unroute("**/v1/**")
    page.clock.run_for(30_000)
    expect(page.locator("#connection")).to_have_text(re.compile(r"Trying again in (9|10|11) s"))
    page.clock.run_for(12_000)
    expect(page.locator("#connection")).to_have_text("Live")


def test_a_hidden_page_asks_nothing(rig: Rig, open_page: Open) -> None:
    customer = rig.customer()
    rig.fault(account=customer.sid, step="route_number", write=True, action="hold", when="before")
    rig.submit(customer)
    page = open_page(f"{rig.stack.api_url}/")
    # Held open for the import that is under way, too.
    with page.expect_request(re.compile("wait=20")):
        enter(page, key_of(rig))
    with page.expect_event("requestfailed", lambda one: "wait=20" in one.url):
        _hide(page, hidden=True)
    expect(page.locator("#connection")).to_have_text("Paused")
    asked = requests_of(page)
    page.wait_for_timeout(3500)
    assert asked == []

    rig.control("holds/release", {"proceed": True})
    _hide(page, hidden=False)
    expect(job(page, customer.number).locator(".badge")).to_have_text("active")


def _hide(page: Page, *, hidden: bool) -> None:
    # Headless, a page is never hidden by another one.
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_everybody_can_read_it(
    rig: Rig, open_page: Open, scheme: Any, size: tuple[int, int]
) -> None:
    """By https://www.deque.com/axe, contrast of WCAG AA among the rest; and nothing runs out."""
    if not rig.api.get("/v1/imports", params={"status": "failed"}).json()["items"]:
        named = rig.customer(owns=False, friendly_name="Donaudampfschifffahrt" * 3)
        rig.wait([rig.submit(named)["id"]])
    page = open_page(
        f"{rig.stack.api_url}/", size=size, color_scheme=scheme, reduced_motion="reduce"
    )
    _is_accessible(page)
    enter(page, key_of(rig))
    expect(page.locator("#connection")).to_have_text("Live")
    closed = page.locator("details:not([open]) > summary")
    while closed.count() > 0:
        closed.first.click()
    expect(page.locator(".step .name").first).to_be_visible()
    _is_accessible(page)
    moving = "() => document.getAnimations().length"
    assert page.evaluate(moving) == 0


def _is_accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
