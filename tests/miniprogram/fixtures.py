"""Fixtures of the browser tests: `pytest_plugins = ["tests.miniprogram.fixtures"]`.

tests/miniprogram/ builds the mini-program into a page; the page is served from the service's own origin by
Playwright alone, because wx.request knows no CORS. Nothing between the page's wx.request and the service is
replaced.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent
CHROMIUM = "/usr/bin/chromium"


def _require(condition, why):
    if not condition:
        pytest.skip(f"the mini-program was NOT tested: {why}")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    _require(shutil.which("node"), "node is missing")
    _require((HARNESS / "node_modules").is_dir(), "run `npm ci` in tests/miniprogram")
    output = tmp_path_factory.mktemp("miniprogram")
    subprocess.run(["node", HARNESS / "build.js", output], check=True)
    return output


# Not for the whole session: Playwright's event loop must not be running under anybody else's tests.
@pytest.fixture(scope="module")
def chromium():
    _require(Path(CHROMIUM).exists(), f"{CHROMIUM} is missing")
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", *quiet],
        )
        yield browser
        browser.close()


@pytest.fixture
def phones(chromium, built, service):
    """Makes phones, and asks of each in the end that nobody complained: no error, no policy violation."""
    from tests.miniprogram.phone import Phone

    made = []

    def make(at=service, **options):
        made.append(Phone(chromium, built, at.url, **options))
        return made[-1]

    yield make
    complaints = [complaint for phone in made for complaint in phone.complaints]
    for phone in made:
        phone.context.close()
    assert complaints == []


@pytest.fixture
def phone(phones):
    return phones()


@pytest.fixture
def pictures(tmp_path):
    directory = Path(os.environ.get("SCREENSHOT_DIR") or tmp_path)
    directory.mkdir(parents=True, exist_ok=True)
    return directory
