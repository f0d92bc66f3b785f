"""What clients did and were told, call by call: what the checker holds the files against."""

import time
from threading import Lock
from typing import Any, Final, Literal

import msgspec

from tests.torture.round import Round

ACKNOWLEDGED: Final = "acknowledged"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"
Outcome = Literal["acknowledged", "refused", "unknown"]

# Refusals that say nothing of the command: it may be recorded by then, or be later.
PASSING: Final = frozenset({"not-committed", "rate-limited", "busy", "not-logged-in", "key-invalid"})


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request and what came of it; times are of the monotonic clock, in nanoseconds.

    `key` is as the ledger has it, and `facts` are what the event under that key must say: two bodies under one
    key differ in them. Of a login the fact is the code. `settling` calls came after the faults, so that nothing
    that was sent before them can still arrive. What was told is None where the answer had no such thing.
    """

    who: str
    action: str
    openid: str
    key: str | None
    facts: dict[str, Any]
    sent_ns: int
    answered_ns: int
    outcome: Outcome
    settling: bool = False
    code: str | None = None
    version: int | None = None
    credit: int | None = None
    hash: str | None = None
    token: str | None = None
    receipt: dict[str, Any] | None = None

    @property
    def acknowledged(self) -> bool:
        return self.outcome == ACKNOWLEDGED

    @property
    def name(self) -> str:
        return f"{self.action} {self.key or self.facts} of {self.openid}"


class History:
    """All calls of a round, of any number of threads; each is also a line of the round's file."""

    def __init__(self, part: Round) -> None:
        self._part = part
        self._lock = Lock()
        self.calls: list[Call] = []

    def add(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)
            self._part.tally[call.outcome] += 1
            self._part.record(**msgspec.to_builtins(call))


def now_ns() -> int:
    return time.monotonic_ns()


def writes(calls: list[Call]) -> dict[tuple[str, str], list[Call]]:
    """The attempts at each write, by account and key; what has no key is none."""
    found: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        if call.key is not None:
            found.setdefault((call.openid, call.key), []).append(call)
    return found


def alike(attempts: list[Call]) -> list[list[Call]]:
    """The attempts under one key, those with the same body together."""
    found: dict[bytes, list[Call]] = {}
    for call in attempts:
        found.setdefault(msgspec.json.encode(call.facts, order="sorted"), []).append(call)
    return list(found.values())


def is_open(attempts: list[Call]) -> bool:
    """Whether nobody knows what became of a write: a retry with its key must still settle it."""
    return not any(
        call.acknowledged or (call.settling and call.outcome == REFUSED and call.code not in PASSING)
        for call in attempts
    ) and any(call.outcome == UNKNOWN for call in attempts)
