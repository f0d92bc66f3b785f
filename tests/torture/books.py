"""The books, kept by hand: what the events of one account come to, with none of the product's code."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from api import access
from ledger.audit_scan import AuditScan

# What an account row holds of these books.
FIGURES: Final = ("credit", "held", "granted", "spent", "expired", "revoked")


class Event(msgspec.Struct, frozen=True):
    """A row of the log, decoded by the standard library alone."""

    position: int
    openid: str
    version: int
    type: str
    data: dict[str, Any]
    credit: int
    key: str | None
    recorded_at_us: int
    hash: str


class Row(msgspec.Struct, frozen=True):
    """An account row: what it says the log comes to."""

    version: int
    head: str
    figures: dict[str, int]


class Files(msgspec.Struct, frozen=True):
    """What is on disk: the log in order of its positions, the account rows, the hashes of live tokens."""

    events: list[Event]
    rows: dict[str, Row]
    tokens: frozenset[bytes] = frozenset()

    def by_account(self) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = {}
        for event in self.events:
            found.setdefault(event.openid, []).append(event)
        return found


def read_files(data: Path) -> Files:
    """What is in a data directory, whether or not a service runs on it."""
    events: list[Event] = []
    with AuditScan(data / "ledger.db") as scan:
        while rows := scan.chunk(events[-1].position if events else 0):
            events += [
                Event(
                    row.position,
                    row.openid.decode(),
                    row.version,
                    row.type.decode(),
                    json.loads(row.data),
                    row.credit,
                    None if row.key is None else row.key.decode(),
                    row.recorded_at_us,
                    row.hash.hex(),
                )
                for row in rows
            ]
        accounts = {openid.decode(): _row(row) for openid, row in scan.account_rows()}
    with closing(access.open_access(data / "access.db", read_only=True)) as connection:
        tokens = frozenset(digest for (digest,) in connection.execute("SELECT token_hash FROM session"))
    return Files(events, accounts, tokens)


def _row(row: tuple[Any, ...]) -> Row:
    version, head, _, _, *figures = row[:10]
    return Row(version, head.hex(), dict(zip(FIGURES, figures, strict=True)))


def wrong_in(events: list[Event], row: Row | None) -> Iterator[str]:
    """What is wrong with one account, whose events are in order of their positions."""
    who = events[0].openid
    books = dict.fromkeys(FIGURES, 0)
    holds: dict[int, int] = {}
    spends: dict[int, int] = {}
    recorded_at_us = 0
    for number, event in enumerate(events, 1):
        at = f"{who} version {event.version}"
        if event.version != number:
            yield f"{at} stands where version {number} should"
        if (event.type == "UserRegistered") != (number == 1):
            yield f"{at} is {event.type}: an account is registered once, and first"
        if event.recorded_at_us < recorded_at_us:
            yield f"{at} was recorded {recorded_at_us - event.recorded_at_us} us before the event before it"
        recorded_at_us = event.recorded_at_us
        yield from (f"{at}: {problem}" for problem in _enter(event, books, holds, spends))
        if books["credit"] != event.credit:
            yield f"{at} says credit {event.credit}, and the events come to {books['credit']}"
        if min(*books.values(), event.credit) < 0:
            yield f"{at} goes below zero: {books}"
        if books["granted"] != sum(books[name] for name in FIGURES if name != "granted"):
            yield f"{at} does not conserve what was granted: {books}"
    if row != Row(len(events), events[-1].hash, books):
        yield f"the account row of {who} is {row}, and the events come to {books}"


def _enter(event: Event, books: dict[str, int], holds: dict[int, int], spends: dict[int, int]) -> Iterator[str]:
    """Enter one event in the books; yields what it does that cannot be."""
    data = event.data
    amount, expired = data.get("amount", 0), data.get("expired", 0)
    returned = sum(part["amount"] for part in data.get("returned", ()))
    match event.type:
        case "CreditGranted":
            books["granted"] += amount
            books["credit"] += amount
        case "CreditSpent":
            books["credit"] -= amount
            books["spent"] += amount
            spends[event.version] = amount
        case "CreditHeld":
            books["credit"] -= amount
            books["held"] += amount
            holds[event.version] = amount
        case "HoldCaptured" | "HoldReleased":
            held = holds.pop(data["hold"], None)
            if held is None:
                yield f"hold {data['hold']} is settled and was not open"
            books["held"] -= held or 0
            books["credit"] += returned
            books["expired"] += expired
            if event.type == "HoldCaptured":
                books["spent"] += amount
                spends[event.version] = amount
        case "SpendReversed":
            spends[data["spend"]] = spends.get(data["spend"], 0) - amount
            if spends[data["spend"]] < 0:
                yield f"more is reversed than spend {data['spend']} spent"
            books["spent"] -= amount
            books["credit"] += returned
            books["expired"] += expired
        case "GrantRevoked":
            books["credit"] -= amount
            books["revoked"] += amount
        case "CreditExpired":
            books["credit"] -= amount
            books["expired"] += amount
