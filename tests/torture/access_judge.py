"""Whether an answer, and what is stored after it, is what the table of access says."""

from collections.abc import Iterator
from typing import Final

import msgspec

from tests.torture.access_http import Answer
from tests.torture.access_table import YES, Row

# Tricks that lead nowhere, whoever asks: a proxy may take such a path for another than the service does.
OTHER_PATHS: Final = ("two slashes", "an encoded slash")
# Tricks by which nothing happens, whoever asks.
OTHER_METHODS: Final = ("another method", "a method by header")
# Tricks at /v1 that change nothing: who is refused is told what he was told without.
UNHEEDED: Final = ("another's name", "another's name in the query", "a stolen credential in the query")


class Person(msgspec.Struct, frozen=True):
    """Somebody with an account: `mark` and `credit` are in what is shown of it, and nowhere else."""

    name: str
    openid: str
    mark: str
    credit: int
    token: str
    session_key: str

    def is_shown_in(self, answer: Answer) -> bool:
        return self.mark.encode() in answer.body or str(self.credit).encode() in answer.body


class State(msgspec.Struct, frozen=True):
    """What is stored of a person: the account's version, whether the token is live, and the name."""

    version: int
    logged_in: bool
    nickname: str | None


class Seen(msgspec.Struct, frozen=True):
    """One request: who asked (`owner` is whose account it is then about), and the states around it."""

    row: Row
    caller: str
    subject: Person
    owner: Person
    answer: Answer
    before: dict[str, State]
    after: dict[str, State]
    trick: str = ""

    def __str__(self) -> str:
        trick = f" with the trick {self.trick!r}" if self.trick else ""
        return f"{self.caller} at {self.row.route}{trick}"


def faults(seen: Seen) -> Iterator[str]:
    """Every broken promise, in a sentence."""
    answer, row = seen.answer, seen.row
    verdict = row.answer_to(seen.caller)
    said = f"{answer.status} {answer.body[:120].decode(errors='replace')!r}"
    if answer.status >= 500:
        yield f"{seen} was a fault of the server: {said}"
    if seen.trick:
        if verdict != YES and _is_let_in(seen):
            yield f"{seen} was let in: {said}"
        heeded = verdict != YES and not answer.is_refusal(verdict)
        if heeded and seen.trick in UNHEEDED and row.path.startswith("/v1"):
            yield f"{seen} was not refused as {verdict}: {said}"
        if seen.trick in OTHER_PATHS and 200 <= answer.status < 400:
            yield f"{seen} was served at a path that a proxy's rules do not know: {said}"
    elif verdict != YES:
        if not answer.is_refusal(verdict):
            yield f"{seen} was not refused as {verdict}: {said}"
    elif answer.status != row.status or not _has_happened(seen):
        yield f"{seen} was not served as {row.status} ({row.does}): {said}"
    if (verdict != YES or seen.owner is not seen.subject) and seen.subject.is_shown_in(answer):
        yield f"{seen} was shown the account of another: {said}"
    yield from _changes(seen, verdict)


def _changes(seen: Seen, verdict: str) -> Iterator[str]:
    """What must not have changed and did."""
    for name, before in seen.before.items():
        after = seen.after[name]
        if after == before or (verdict == YES and name == seen.owner.name and _is_due(seen, before, after)):
            continue
        yield f"{seen} changed what is stored of {name}: {before} became {after}"


def _is_due(seen: Seen, before: State, after: State) -> bool:
    """Whether the owner's change is no more than what the route does."""
    if seen.trick in OTHER_METHODS:
        return False
    match seen.row.does:
        case "event" | "events":
            return after == msgspec.structs.replace(before, version=before.version + _recorded(seen))
        case "leaves":
            return after == msgspec.structs.replace(before, logged_in=False)
        case "name":
            named = (after.nickname or "").startswith(seen.owner.mark)
            return named and after == msgspec.structs.replace(before, nickname=after.nickname)
    return False


def _recorded(seen: Seen) -> int:
    """How many events the route records: a check-in is one, and what it earns another."""
    return 2 if seen.row.does == "events" else 1


def _is_let_in(seen: Seen) -> bool:
    told = seen.answer.told
    logged_in = seen.answer.status < 300 and "token" in told
    return told.get("is_login") is True or told.get("pass") is True or logged_in


def _has_happened(seen: Seen) -> bool:
    told, owner = seen.answer.told, seen.owner
    before, after = seen.before[owner.name], seen.after[owner.name]
    match seen.row.does:
        case "in":
            return told == {"is_login": True}
        case "token":
            return isinstance(told.get("token"), str)
        case "shows":
            return owner.is_shown_in(seen.answer)
        case "event" | "events":
            return after.version == before.version + _recorded(seen)
        case "leaves":
            return not after.logged_in
        case "name":
            return after.nickname != before.nickname
    return True
