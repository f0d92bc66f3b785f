"""What an answer to a hostile request may be, and what the answers say was written."""

import json
from itertools import pairwise
from typing import Any, Final

from tests.torture.raw_http import Answer

# What gunicorn itself refuses a request with, before the service sees it.
_GUNICORNS: Final = frozenset((400, 414, 426, 431, 501))
_PROBLEM: Final = "application/problem+json"
_NDJSON: Final = "application/x-ndjson"


def what_is_wrong(raw: bytes, answer: Answer) -> str | None:
    """Why `answer` must not be given to the request `raw`; None where it may be.

    A refusal is a 4xx problem, or one of gunicorn's own; 501 is for codings of a transfer that nobody knows,
    and 503 for what may be tried again.
    """
    status = answer.status
    if status == 501 and b"transfer-encoding" in raw.lower():
        return None
    if status >= 500 and not (status == 503 and "retry-after" in answer.headers):
        return f"answered {status} {answer.body[:300]!r}"
    if 300 <= status < 400:
        return f"redirected with {status}"
    if status < 400 or raw.startswith(b"HEAD "):
        return None
    if answer.headers.get("content-type") != _PROBLEM:
        refused = status in _GUNICORNS or (status == 403 and b"websocket" in raw.lower())
        return None if refused else f"answered {status} without saying why: {answer.body[:300]!r}"
    said = _object(answer.body)
    if said.get("status") != status or not all(said.get(name) for name in ("code", "title", "detail")):
        return f"answered {status} with a problem that lacks something: {answer.body[:300]!r}"
    return None


class Books:
    """Which versions of one account the service said that it wrote; `unknown` requests had no answer."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._written: list[int] = []
        self.unknown = 0

    def enter(self, answer: Answer) -> None:
        """Note what an answer says was recorded; a replayed one says nothing new."""
        media = answer.headers.get("content-type")
        if answer.status == 201 and "idempotent-replayed" not in answer.headers:
            said = _object(answer.body)
            if "event" in said and not said.get("dry_run"):
                self._written.append(said["event"]["version"])
        elif answer.status == 200 and media == _NDJSON:
            for line in map(_object, answer.body.splitlines()):
                if line.get("status") == 201 and not line.get("replayed"):
                    self._written.append(line["version"])

    def wrong(self, version: int) -> list[str]:
        """What an account that is now at `version` has against what was answered."""
        found = []
        written = sorted(self._written)
        twice = [one for one, next_one in pairwise(written) if one == next_one]
        if twice:
            found.append(f"version {twice[0]} was answered to two requests")
        if written and written[-1] > version:
            found.append(f"version {written[-1]} was answered, and the account ends at {version}")
        unanswered = set(range(self._version + 1, version + 1)) - set(written)
        if len(unanswered) > self.unknown:
            found.append(
                f"{len(unanswered)} events were answered to nobody, {self.unknown} requests had no answer: "
                f"version {min(unanswered)}"
            )
        return found


def _object(text: bytes) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
