"""What clients were told against what is on disk: each promise a function that yields how it was broken."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import accumulate
from typing import Any

from tests.torture.books import Event, Files, wrong_in
from tests.torture.history import PASSING, REFUSED, UNKNOWN, Call, alike, is_open, writes


def broken_promises(calls: list[Call], files: Files, *, clock_moved: bool = False) -> list[str]:
    """Every promise that this history and these files break together, in sentences.

    Where the clock was moved, reads of accounts with anything that lapses are not compared, here and in
    `dead_tokens`: what they found depended on the time of day. Nor is there a receipt for everything then.
    """
    return [
        *_accounts(files),
        *_recorded(calls, files),
        *_nothing_else(calls, files),
        *_in_order(calls, files),
        *_reads(calls, files, clock_moved=clock_moved),
        *_logins(calls, files),
        *([] if clock_moved else _unsigned(calls)),
    ]


def dead_tokens(calls: list[Call], files: Files, *, clock_moved: bool = False) -> Iterator[str]:
    """A token that was issued works and shows the credit there is; each was used after the faults."""
    accounts = files.by_account()
    credit = {openid: events[-1].credit for openid, events in accounts.items()}
    shown = {call.token: call for call in calls if call.settling and call.action == "read"}
    for call in calls:
        if call.action != "login" or not call.acknowledged or call.token is None:
            continue
        if sha256(call.token.encode()).digest() not in files.tokens:
            yield f"a token of {call.openid} was issued and is not in access.db"
        read = shown.get(call.token)
        if read is None or not read.acknowledged:
            why = "was not tried" if read is None else f"answers {read.code or read.outcome}"
            yield f"a token of {call.openid} was issued and {why} after the faults"
        elif clock_moved and any(map(_lapses, accounts.get(call.openid, ()))):
            continue
        elif read.credit != credit.get(call.openid):
            yield f"{call.openid} is shown credit {read.credit}, and has {credit.get(call.openid)}"


def lacking(calls: list[Call], files: Files) -> Iterator[str]:
    """What was acknowledged by the end of these calls, and is not in a copy that was begun after it."""
    found = _by_key(files)
    for call in calls:
        if call.acknowledged and call.key is not None:
            events = found.get((call.openid, call.key), [])
            if len(events) != 1 or any(_differences(call, events[0])):
                yield f"{call.name} was acknowledged before the copy was begun, and is not in it as it was told"


def _accounts(files: Files) -> Iterator[str]:
    """Versions without gaps, never negative, conserved, time never backwards, rows that say the same."""
    accounts = files.by_account()
    for openid, events in accounts.items():
        yield from wrong_in(events, files.rows.get(openid))
        days = [event.data["day"] for event in events if event.type == "CheckedIn"]
        if days != sorted(set(days)):
            yield f"{openid} checked in twice in a day: {days}"
    for openid in files.rows.keys() - accounts.keys():
        yield f"{openid} has an account row and no event"


def _recorded(calls: list[Call], files: Files) -> Iterator[str]:
    """Acknowledged is in the log once, as it was told; refused is absent; unknown is there at most once."""
    found = _by_key(files)
    for where, attempts in writes(calls).items():
        if len(found.get(where, [])) > 1:
            yield f"key {where[1]} of {where[0]} is in the log {len(found[where])} times"
        for same in alike(attempts):
            events = [event for event in found.get(where, []) if _says(event, same[0])]
            yield from _one_write(same, events)
        if is_open(attempts) and any(call.settling for call in attempts):
            yield f"{attempts[0].name} was not settled by a retry with its key"


def _one_write(attempts: list[Call], events: list[Event]) -> Iterator[str]:
    name = attempts[0].name
    told = [call for call in attempts if call.acknowledged]
    if told and len(events) != 1:
        yield f"{name} was acknowledged and is in the log {len(events)} times"
    elif told:
        for call in told:
            yield from (f"{name}: {difference}" for difference in _differences(call, events[0]))
        first_ns = min(call.answered_ns for call in told)
        for call in attempts:
            if call.outcome == REFUSED and call.sent_ns > first_ns and call.code not in PASSING:
                yield f"{name} was acknowledged and then refused: {call.code}"
    elif not events:
        return
    elif all(call.outcome == REFUSED for call in attempts):
        yield f"{name} was refused ({attempts[-1].code}) and is in the log as version {events[0].version}"
    elif any(call.settling and call.outcome == REFUSED and call.code not in PASSING for call in attempts):
        yield f"{name} was refused when it was tried again, and is in the log: version {events[0].version}"


def _differences(call: Call, event: Event) -> Iterator[str]:
    for what, told, is_there in (
        ("version", call.version, event.version),
        ("credit", call.credit, event.credit),
        ("hash", call.hash, event.hash),
    ):
        if told is not None and told != is_there:
            yield f"{what} {told} was told, and {is_there} is in the log"


def _nothing_else(calls: list[Call], files: Files) -> Iterator[str]:
    """Nothing is in the log that nobody asked for: what has no key is a rule's."""
    asked = writes(calls)
    logged_in = {call.openid for call in calls if call.action == "login"}
    for event in files.events:
        name = f"{event.openid} version {event.version} ({event.type})"
        by_rule = event.type in ("UserRegistered", "CheckedIn") or event.data.get("actor", "").startswith(
            "rule:"
        )
        if event.openid not in logged_in:
            yield f"{name} is of somebody who never logged in"
        elif event.key is None and not by_rule:
            yield f"{name} has no key, and no rule made it"
        elif event.key is not None and not any(
            _says(event, call) for call in asked.get((event.openid, event.key), [])
        ):
            yield f"{name} under key {event.key} is what nobody asked for"


def _in_order(calls: list[Call], files: Files) -> Iterator[str]:
    """If A was answered before B was sent, A's position comes first."""
    found = _by_key(files)
    answered: list[tuple[int, int]] = []
    sent: list[tuple[int, int, str]] = []
    for where, attempts in writes(calls).items():
        for same in alike(attempts):
            events = [event for event in found.get(where, []) if _says(event, same[0])]
            told = [call.answered_ns for call in same if call.acknowledged]
            if told and len(events) == 1:
                answered.append((min(told), events[0].position))
                sent.append((min(call.sent_ns for call in same), events[0].position, same[0].name))
    latest = _largest_before(answered)
    for sent_ns, position, name in sent:
        if latest(sent_ns) > position:
            yield f"{name} is at position {position}, sent after position {latest(sent_ns)} was answered"


def _reads(calls: list[Call], files: Files, *, clock_moved: bool) -> Iterator[str]:
    """A read shows what was acknowledged before it was sent, and nothing that was sent after its answer; and
    whoever is refused for want of credit had too little at such a moment."""
    reads: dict[str, list[Call]] = {}
    for call in calls:
        if (call.action == "read" and call.acknowledged) or call.code == "insufficient-credit":
            reads.setdefault(call.openid, []).append(call)
    asked: dict[str, list[tuple[str, list[Call]]]] = {}
    for (openid, key), attempts in writes(calls).items():
        asked.setdefault(openid, []).append((key, attempts))
    accounts = files.by_account()
    for openid, mine in reads.items():
        events = accounts.get(openid, [])
        if clock_moved and any(map(_lapses, events)):
            continue
        window = _window(events, asked.get(openid, []))
        for call in mine:
            seen = window(call)
            if call.action != "read":
                if all(each.credit >= call.facts.get("amount", 0) for each in seen):
                    yield f"{call.name} was refused, and there was credit: {[each.credit for each in seen][:5]}"
                continue
            fits = [each for each in seen if each.credit == call.credit]
            if call.version is not None:
                fits = [each for each in fits if each.version == call.version]
            if not fits:
                shown = f"credit {call.credit}" + (f" of version {call.version}" if call.version else "")
                yield f"{openid} was shown {shown} where it had {[each.credit for each in seen][:5]}"


def _window(events: list[Event], asked: list[tuple[str, list[Call]]]) -> Callable[[Call], list[Event]]:
    """For a read of an account with these events: after which of them it can have been."""
    version_of = {event.key: event.version for event in events if event.key is not None}
    least = _largest_before(
        (call.answered_ns, call.version or 0) for _, attempts in asked for call in attempts if call.acknowledged
    )
    first_sent = sorted(
        (min(call.sent_ns for call in attempts), version_of[key])
        for key, attempts in asked
        if key in version_of
    )
    times = [sent_ns for sent_ns, _ in first_sent]
    # Of what was first sent at such a place or behind it, the lowest version.
    lowest = list(accumulate([version for _, version in reversed(first_sent)], min))[::-1]

    def window(read: Call) -> list[Event]:
        at = bisect_right(times, read.answered_ns)
        most = lowest[at] - 1 if at < len(lowest) else len(events)
        return events[max(least(read.sent_ns), 1) - 1 : most]

    return window


def _logins(calls: list[Call], files: Files) -> Iterator[str]:
    """Whoever has a token has an account; a code gives one token."""
    accounts = files.by_account()
    tokens = Counter(call.facts["code"] for call in calls if call.action == "login" and call.acknowledged)
    for code, count in tokens.items():
        if count > 1:
            yield f"code {code} gave {count} tokens"
    for call in calls:
        if call.action != "login" or not call.acknowledged:
            continue
        if call.token is None:
            yield f"{call.name} was acknowledged without a token"
        if call.openid not in accounts:
            yield f"{call.openid} has a token and no account"


def _unsigned(calls: list[Call]) -> Iterator[str]:
    """Who is shown the event that he asked for is given a receipt of it."""
    for call in calls:
        if call.acknowledged and call.key is not None and call.hash is not None and call.receipt is None:
            yield f"{call.name} was acknowledged without a receipt"


def unsettled(calls: list[Call]) -> list[Call]:
    """One attempt of each write of which nobody knows what became."""
    return [
        next(call for call in same if call.outcome == UNKNOWN)
        for attempts in writes(calls).values()
        for same in alike(attempts)
        if is_open(same)
    ]


def _lapses(event: Event) -> bool:
    """Whether it is of something that comes to its end by itself."""
    return event.type == "CreditHeld" or "expires_at_us" in event.data


def _says(event: Event, call: Call) -> bool:
    """Whether the event is what the call asked for."""
    return call.facts.items() <= event.data.items()


def _by_key(files: Files) -> dict[tuple[str, str], list[Event]]:
    found: dict[tuple[str, str], list[Event]] = {}
    for event in files.events:
        if event.key is not None:
            found.setdefault((event.openid, event.key), []).append(event)
    return found


def _largest_before(points: Any) -> Callable[[int], int]:
    """Of points (time, value): the largest value before a time, 0 where there is none."""
    ordered = sorted(points)
    times = [at for at, _ in ordered]
    largest = list(accumulate([value for _, value in ordered], max))

    def before(time_ns: int) -> int:
        at = bisect_left(times, time_ns)
        return largest[at - 1] if at else 0

    return before
