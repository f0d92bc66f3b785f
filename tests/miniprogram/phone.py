"""A phone for the browser tests: a Chromium context that shows the built mini-program."""

import random
import struct
import time
import uuid
import zlib
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

# For what must come, however busy the machine is; nobody waits that long for what comes.
PATIENCE_S = 60
expect.set_options(timeout=PATIENCE_S * 1000)

SCREEN = {"width": 390, "height": 844}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css"}


class Phone:
    """One user's phone: its storage outlives a launch, and it notes every request and every complaint."""

    def __init__(self, chromium, built, base, user=None, scheme="light", zone="Asia/Shanghai"):
        self.base, self.built, self.user = base, built, user or f"u{uuid.uuid4().hex[:10]}"
        self.requests, self.complaints, self.failures_expected = [], [], False
        self.context = chromium.new_context(
            viewport=SCREEN,
            device_scale_factor=2,
            color_scheme=scheme,
            locale="zh-CN",
            timezone_id=zone,
        )
        self.context.route(f"{base}/__page/**", self._serve_page)
        self.context.on("request", self._note_request)
        self.context.on("console", self._note_console)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.context.set_default_timeout(PATIENCE_S * 1000)
        self.page = self.context.new_page()

    def _serve_page(self, route):
        file = self.built / Path(route.request.url.partition("?")[0]).name
        headers = {"content-type": TYPES[file.suffix], "content-security-policy": POLICY}
        route.fulfill(body=file.read_bytes(), headers=headers)

    def _note_request(self, request):
        if request.url.startswith("http") and "/__page/" not in request.url:
            self.requests.append((request.method, request.url.removeprefix(self.base)))

    def _note_console(self, message):
        # Chromium itself reports every 401 and every lost connection; the page did nothing wrong.
        if message.text.startswith("Failed to load resource") and (
            # Nor where the account is not sealed yet.
            self.failures_expected or message.location["url"].startswith(f"{self.base}/v1/me/proof")
        ):
            return
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def launch(self, login=None):
        self.requests.clear()
        self.page.goto(f"{self.base}/__page/index.html?login={login or 'dev-' + self.user}")

    def see(self, name):
        """What has this id on the current page; ids in the DOM read `<guid>--name`."""
        return self.page.locator(f'page:not([hidden]) [id$="--{name}"]')

    def rows(self):
        return self.page.locator('page:not([hidden]) [id*="--event-"]')

    def texts(self, name):
        """What the rows of a section say, each without the space around it."""
        texts = self.see(name).locator(".part").all_inner_texts()
        return [" ".join(text.split()) for text in texts]

    def versions(self):
        return self.rows().evaluate_all("rows => rows.map(row => Number(row.id.split('--event-')[1]))")

    def fetch(self, credit):
        self.see("fetch").click()
        expect(self.see("credit")).to_have_text(credit)
        expect(self.see("fetch")).to_be_enabled()

    def checked(self):
        """Waits for the end of the phone's own check; until then the word is the one of the check before."""
        expect(self.see("seal-word")).to_have_class("seal-word")

    def check_in(self, credit):
        """Ends when the page has caught up, too: it asks for more once the check-in is answered."""
        self.see("checkin").click()
        expect(self.see("credit")).to_have_text(credit)
        expect(self.see("checkin")).to_have_text("已签到")

    @contextmanager
    def toasts_stay(self):
        self.page.evaluate("host.toastsStay = true")
        yield
        self.page.evaluate("host.toastsStay = false")
        self.page.locator(".toast").evaluate_all("toasts => toasts.forEach(toast => toast.remove())")

    @contextmanager
    def held(self, pattern):
        """Keeps back the requests that the page makes within the block."""
        routes = []

        def keep(route):
            routes.append(route)

        self.context.route(pattern, keep)
        yield routes
        self.context.unroute(pattern, keep)
        for route in routes:
            route.continue_()

    def wait_until(self, condition):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for nothing"
            self.page.wait_for_timeout(20)

    def load_more(self):
        """Taps the button; on a screen so tall that scrolling to it does not load by itself."""
        self.page.set_viewport_size({**SCREEN, "height": 9000})
        self.see("more").click()

    def count(self, method, path):
        return sum(1 for request in self.requests if request == (method, path))

    def stored_token(self):
        return self.page.evaluate("JSON.parse(localStorage.getItem('wx:token'))")

    def look(self, directory, name):
        self.page.screenshot(path=directory / f"{name}.png", full_page=True, animations="disabled")

    def choose_avatar(self, name, content):
        with self.page.expect_file_chooser() as chooser:
            self.see("choose-avatar").click()
        chooser.value.set_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})


def png(width, noisy):
    """A picture as a phone's album might hold it; noise is what compresses worst."""
    pixels = random.Random(1)
    line = (lambda: pixels.randbytes(3 * width)) if noisy else (lambda: b"\x2a\x8b\x72" * width)
    raw = b"".join(b"\0" + line() for _ in range(width))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, width, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )
