"""GET /docs as a reader meets it: in Chromium, without a network, in the light and in the dark, on a phone."""

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import requests

from api.incoming import EXAMPLE_OPENID
from ledger.commands import FreezeAccount, HoldCredit, SpendCredit
from tests.backend import SCOPES, happened, new_key, seal
from tests.conftest import PATIENCE_S, Service

CHROMIUM = "/usr/bin/chromium"
sync_api = pytest.importorskip("playwright.sync_api", reason="/docs was NOT seen: playwright is missing")
if not Path(CHROMIUM).exists():
    pytest.skip(f"/docs was NOT seen: {CHROMIUM} is missing", allow_module_level=True)

DESK, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def document(_shared_service: Service) -> dict[str, Any]:
    return dict(requests.get(f"{_shared_service.url}/openapi.json", timeout=PATIENCE_S).json())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield browser
        browser.close()


class Reader:
    """A page that notes what it asks for and what it complains of."""

    def __init__(self, chromium: Any, service: Service, **options: Any) -> None:
        self.context = chromium.new_context(**{"viewport": DESK} | options)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.url = f"{service.url}/docs"
        self.page.goto(self.url, wait_until="networkidle")


@pytest.fixture
def readers(chromium: Any, service: Service) -> Iterator[Any]:
    """Makes readers; in the end nobody may have complained, or asked for anything but the page."""
    made: list[Reader] = []

    def make(**options: Any) -> Reader:
        made.append(Reader(chromium, service, **options))
        return made[-1]

    yield make
    complaints = [complaint for reader in made for complaint in reader.complaints]
    asked = {url for reader in made for url in reader.asked if not url.endswith("/favicon.ico")}
    for reader in made:
        reader.context.close()
    assert complaints == []
    assert asked == {f"{service.url}/docs"}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_needs_nothing_but_itself(service: Service, readers: Any) -> None:
    """What it may load is said by a policy that names the one style by its hash, and no script at all."""
    response = requests.get(f"{service.url}/docs", timeout=PATIENCE_S)
    assert response.headers["Content-Type"].startswith("text/html")
    policy = dict(
        part.strip().partition(" ")[::2] for part in response.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", policy["style-src"])
    assert not re.search(r"<script|<img|<link|<iframe|\bsrc=|url\(|@import|\bon\w+=|style=", response.text)
    style = readers().page.evaluate("getComputedStyle(document.querySelector('pre')).overflowX")
    assert style == "auto"  # the policy lets the style in


def test_it_goes_on_working_without_a_network(readers: Any) -> None:
    reader = readers()
    reader.context.set_offline(True)
    reader.page.click("nav a[href='#post_accounts_holds']")
    assert reader.page.url.endswith("#post_accounts_holds")
    assert reader.page.locator("#post_accounts_holds h3").is_visible()
    more = reader.page.locator("#post_accounts_holds details")
    assert not more.locator("table").is_visible()
    more.locator("summary").click()
    assert more.get_by_text("rate-limited").is_visible()


def test_every_operation_schema_and_code_is_on_it(readers: Any, document: dict[str, Any]) -> None:
    page = readers().page
    for path, method, operation in operations(document):
        section = page.locator(f"section[id='{operation['operationId']}']")
        shown = section.inner_text()
        assert f"{method.upper()} {path}" in shown
        assert operation["summary"] in shown
        whole = section.text_content()
        for parameter in operation["parameters"]:
            assert parameter["name"] in whole
        for status, response in operation["responses"].items():
            assert status in whole
            for code in response["description"].partition(": ")[2].rstrip(".").split(", "):
                if int(status) >= 400:
                    assert code in whole, (operation["operationId"], code)
    for name, schema in document["components"]["schemas"].items():
        about = page.locator(f"[id='{name}']").inner_text()
        assert schema["description"].replace("`", "").split("\n")[0] in about
        assert all(field in about for field in schema["properties"] if "allOf" not in schema), name
        assert all(figure in about for figure in schema["required"]), name


def test_a_body_and_an_answer_are_shown_field_by_field(readers: Any) -> None:
    section = readers().page.locator("#post_accounts_holds")
    rows = dict(
        section.locator("tr").evaluate_all("rows => rows.map(row => [...row.cells].map(c => c.textContent))")
    )
    assert rows["amount"] == "credits, without a decimal point integer 1 to 2^53-1"
    assert rows["deadlineoptional"].startswith("RFC 3339")
    assert rows["event.credit"].startswith("what could be spent right after it")
    assert rows["409 insufficient-credit"].startswith("The account can spend available")
    assert rows["Idempotent-Replayedheader"]


def test_anchors_lead_to_what_they_name(readers: Any) -> None:
    page = readers().page
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(each => each.id)")
    assert len(set(ids)) == len(ids)
    hrefs = set(page.evaluate("[...document.querySelectorAll('a')].map(each => each.getAttribute('href'))"))
    assert {href.removeprefix("#") for href in hrefs} - {"/openapi.json"} <= set(ids)
    assert len(hrefs) > 40
    page.click("#post_accounts_spends a[href='#InsufficientCredit']")
    box = page.locator("#InsufficientCredit").bounding_box()
    assert -1 < box["y"] < DESK["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [DESK, PHONE], ids=["desk", "phone"])
def test_it_can_be_read(readers: Any, scheme: str, screen: dict[str, int], tmp_path: Path) -> None:
    """Nothing sticks out sideways, and every colour stands out from what is behind it (WCAG AA)."""
    page = readers(viewport=screen, color_scheme=scheme).page
    assert page.evaluate("document.documentElement.scrollWidth") <= screen["width"]
    faint = page.evaluate(CONTRAST)
    assert faint == []
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in re.findall(r"\d+", background)) < 384) == (scheme == "dark")
    directory = Path(os.environ.get("SCREENSHOT_DIR") or tmp_path)
    page.screenshot(path=directory / f"docs-{screen['width']}-{scheme}.png")


CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = new Set();
  for (const element of document.querySelectorAll('body *')) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
    const [one, other] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < 4.5) faint.add(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return [...faint];
}"""


def test_headings_are_in_order_and_the_page_has_landmarks(readers: Any) -> None:
    page = readers().page
    levels = page.evaluate("[...document.querySelectorAll('main :is(h1,h2,h3,h4)')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert page.locator("nav").count() == page.locator("main").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"


class Examples(HTMLParser):
    """What stands in each <pre>, by the section it is in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self._section, self._inside = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        self._inside = tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside and self._section:
            self.found[self._section] = self.found.get(self._section, "") + data


def test_every_example_can_be_pasted_into_a_shell(service: Service, document: dict[str, Any]) -> None:
    """Each is run by bash as it stands, and does what it is for, on an account with the events it names."""
    examples = Examples(requests.get(f"{service.url}/docs", timeout=PATIENCE_S).text).found
    assert set(examples) == {operation["operationId"] for _, _, operation in operations(document)}
    key = new_key(service, *SCOPES)
    for name, example in examples.items():
        user = f"u{secrets.token_hex(4)}"
        token, openid = service.login(user), service.openid_of(user)
        happened(
            service,
            HoldCredit(openid, 30, "event 3", "example-3"),
            SpendCredit(openid, 30, "event 4", "example-4"),
        )
        if name == "post_accounts_unfreeze":
            happened(service, FreezeAccount(openid, "event 5", "example-5"))
        if name.endswith("proof"):
            seal(service)
        assert example.startswith("curl ")
        command = example.replace("dev-alice-1", f"dev-{user}-again").replace(EXAMPLE_OPENID, openid)
        done = subprocess.run(
            ["bash", "-c", command + " -sS -w '\\n%{http_code}'"],
            env={"CREDIT": service.url, "KEY": key, "TOKEN": token, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        assert status in ("200", "201", "204"), (name, command, body)
        assert '"status":4' not in body, (name, body)
