"""The checker of the torture suite bites: a small true history, and every promise broken in it, one by one."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.torture.books import FIGURES, Event, Files, Row
from tests.torture.checker import broken_promises, dead_tokens, unsettled
from tests.torture.history import Call, History
from tests.torture.round import Round
from tests.torture.wire import outcome_of

OPENID = "oAnna"


def event(version: int, kind: str, credit: int, key: str | None = None, **data: Any) -> Event:
    """At the position of its version, recorded at as many microseconds."""
    return Event(version, OPENID, version, kind, data, credit, key, version, f"hash{version}")


def call(
    at: int, action: str, key: str | None, facts: dict[str, Any], outcome: str = "acknowledged", **told: Any
) -> Call:
    """Sent at ten times `at` and answered five later."""
    return Call("client", action, OPENID, key, facts, at * 10, at * 10 + 5, outcome, **told)  # type: ignore[arg-type]


class Story:
    """A true history and the files that belong to it, for a test to change."""

    def __init__(self) -> None:
        self.events = [
            event(1, "UserRegistered", 0),
            event(2, "CreditGranted", 100, amount=100, reason="signup", actor="rule:signup"),
            event(3, "CreditGranted", 110, "g1", amount=10, reason="gift", actor="key:1"),
            event(4, "CreditSpent", 105, "s1", amount=5, used=[{"amount": 5}], reason="order", actor="key:1"),
            event(5, "CreditHeld", 85, "h1", amount=20, used=[{"amount": 20}], reason="order", actor="key:1"),
            event(6, "HoldCaptured", 85, "c1", hold=5, amount=20, reason="order", actor="key:1"),
            event(7, "SpendReversed", 87, "r1", spend=4, amount=2, returned=[{"amount": 2}], actor="key:1"),
            event(8, "CheckedIn", 87, day=9, streak=1, rules="1"),
            event(9, "CreditGranted", 92, "user 1", amount=5, reason="checkin", actor="rule:checkin/1"),
            event(10, "CreditGranted", 93, "g2", amount=1, reason="gift", actor="key:1"),
        ]
        self.row = Row(10, "hash10", dict(zip(FIGURES, (93, 0, 116, 23, 0, 0), strict=True)))
        self.tokens = {sha256(b"token").digest()}
        self.calls = [
            call(1, "login", None, {"code": "a"}, token="token"),
            call(2, "grant", "g1", {"amount": 10}, version=3, credit=110, hash="hash3", receipt={"version": 3}),
            call(3, "spend", "s1", {"amount": 5}, version=4, credit=105),
            call(4, "spend", "s2", {"amount": 1000}, "refused", code="insufficient-credit"),
            call(5, "hold", "h1", {"amount": 20}, version=5, credit=85),
            call(6, "read", None, {}, version=5, credit=85),
            call(7, "capture", "c1", {"hold": 5, "amount": 20}, version=6, credit=85),
            call(8, "reverse", "r1", {"spend": 4, "amount": 2}, "unknown"),
            call(9, "reverse", "r1", {"spend": 4, "amount": 2}, version=7, credit=87),
            call(10, "checkin", "user 1", {"reason": "checkin"}, version=9, credit=92),
            call(11, "grant", "g2", {"amount": 1}, "unknown"),
            call(12, "grant", "g3", {"amount": 1}, "unknown"),
            call(13, "grant", "g3", {"amount": 1}, "refused", settling=True, code="account-frozen"),
            call(14, "grant", "g2", {"amount": 1}, settling=True, version=10, credit=93),
            call(15, "grant", "g2", {"amount": 2}, "refused", code="key-reused"),
            call(16, "read", None, {}, settling=True, version=10, credit=93, token="token"),
        ]

    @property
    def files(self) -> Files:
        return Files(self.events, {OPENID: self.row}, frozenset(self.tokens))

    def broken(self) -> list[str]:
        return [*broken_promises(self.calls, self.files), *dead_tokens(self.calls, self.files)]

    def change_event(self, version: int, **to: Any) -> None:
        at = next(n for n, event in enumerate(self.events) if event.version == version)
        self.events[at] = msgspec.structs.replace(self.events[at], **to)

    def change_call(self, at: int, **to: Any) -> None:
        self.calls[at - 1] = msgspec.structs.replace(self.calls[at - 1], **to)

    def remove(self, version: int) -> None:
        self.events = [event for event in self.events if event.version != version]

    def twice(self, version: int) -> None:
        self.events.append(msgspec.structs.replace(self.events[version - 1], position=11, version=11))

    def swap(self, one: int, other: int) -> None:
        self.change_event(one, position=other)
        self.change_event(other, position=one)


def test_a_true_history_breaks_no_promise() -> None:
    assert Story().broken() == []


BROKEN: dict[str, tuple[Callable[[Story], object], str]] = {
    "acknowledged and gone": (lambda s: s.remove(3), "grant g1 of oAnna was acknowledged and is in the log 0"),
    "acknowledged and there twice": (lambda s: s.twice(3), "was acknowledged and is in the log 2 times"),
    "one key twice": (lambda s: s.twice(10), "key g2 of oAnna is in the log 2 times"),
    "another amount": (lambda s: s.change_event(3, data={"amount": 9}), "g1 of oAnna was acknowledged and is"),
    "another version": (lambda s: s.change_call(2, version=4), "version 4 was told, and 3 is in the log"),
    "another credit": (lambda s: s.change_call(3, credit=99), "credit 99 was told, and 105 is in the log"),
    "another hash": (lambda s: s.change_call(2, hash="other"), "hash other was told"),
    "no receipt": (lambda s: s.change_call(2, receipt=None), "g1 of oAnna was acknowledged without a receipt"),
    "a retry is told another": (lambda s: s.change_call(14, version=11), "version 11 was told, and 10"),
    "refused and there": (
        lambda s: s.change_call(2, outcome="refused", code="account-frozen"),
        "grant g1 of oAnna was refused (account-frozen) and is in the log as version 3",
    ),
    "not committed and there": (
        lambda s: s.change_call(2, outcome="refused", code="not-committed"),
        "grant g1 of oAnna was refused (not-committed) and is in the log",
    ),
    "refused on retry and there": (
        lambda s: s.change_call(14, outcome="refused", code="account-frozen"),
        "grant g2 of oAnna was refused when it was tried again, and is in the log",
    ),
    "acknowledged, then refused": (
        lambda s: s.calls.append(call(17, "grant", "g1", {"amount": 10}, "refused", code="account-frozen")),
        "grant g1 of oAnna was acknowledged and then refused",
    ),
    "never settled": (lambda s: s.change_call(14, outcome="unknown"), "g2 of oAnna was not settled"),
    "nobody asked": (lambda s: s.change_event(3, key="other"), "under key other is what nobody asked for"),
    "no rule made it": (lambda s: s.change_event(4, key=None), "has no key, and no rule made it"),
    "never logged in": (lambda s: s.change_call(1, openid="oBo"), "is of somebody who never logged in"),
    "a gap": (lambda s: s.remove(2), "version 3 stands where version 2 should"),
    "two registrations": (lambda s: s.change_event(2, type="UserRegistered"), "registered once, and first"),
    "time runs back": (lambda s: s.change_event(5, recorded_at_us=1), "was recorded 3 us before the event"),
    "credit does not add up": (lambda s: s.change_event(4, credit=104), "says credit 104, and the events come"),
    "below zero": (
        lambda s: s.change_event(4, credit=-890, data=s.events[3].data | {"amount": 1000}),
        "version 4 goes below zero",
    ),
    "nothing conserved": (
        lambda s: s.change_event(7, data=s.events[6].data | {"returned": [{"amount": 3}]}, credit=88),
        "version 7 does not conserve what was granted",
    ),
    "a hold settled twice": (
        lambda s: s.change_event(7, type="HoldReleased", data={"hold": 5, "amount": 20}),
        "hold 5 is settled and was not open",
    ),
    "more reversed than spent": (
        lambda s: s.change_event(7, data=s.events[6].data | {"amount": 6}),
        "more is reversed than spend 4 spent",
    ),
    "another account row": (
        lambda s: setattr(s, "row", msgspec.structs.replace(s.row, head="other")),
        "the account row of oAnna is",
    ),
    "checked in twice": (
        lambda s: s.change_event(10, type="CheckedIn", data={"day": 9}),
        "oAnna checked in twice in a day: [9, 9]",
    ),
    "out of order": (lambda s: s.swap(3, 4), "spend s1 of oAnna is at position 3, sent after position 4"),
    "an old read": (lambda s: s.change_call(6, version=4, credit=105), "was shown credit 105 of version 4"),
    "a read of what comes later": (lambda s: s.change_call(6, version=9, credit=92), "credit 92 of version 9"),
    "a read of what never was": (lambda s: s.change_call(6, version=None, credit=7), "shown credit 7 where"),
    "refused for want of credit that was there": (
        lambda s: s.change_call(4, facts={"amount": 50}),
        "spend s2 of oAnna was refused, and there was credit: [105]",
    ),
    "a token that is gone": (lambda s: s.tokens.clear(), "was issued and is not in access.db"),
    "a token refused": (
        lambda s: s.change_call(16, outcome="refused", code="not-logged-in"),
        "was issued and answers not-logged-in",
    ),
    "a token not tried": (lambda s: s.calls.pop(), "was issued and was not tried"),
    "a token shows another credit": (
        lambda s: s.change_call(16, credit=85, version=6),
        "oAnna is shown credit 85, and has 93",
    ),
    "a code for two": (lambda s: s.calls.append(s.calls[0]), "code a gave 2 tokens"),
    "a login without a token": (lambda s: s.change_call(1, token=None), "was acknowledged without a token"),
    "a token of nobody": (
        lambda s: s.calls.append(msgspec.structs.replace(s.calls[0], openid="oBo", facts={"code": "b"})),
        "oBo has a token and no account",
    ),
}


@pytest.mark.parametrize(("breaking", "sentence"), BROKEN.values(), ids=list(BROKEN))
def test_each_broken_promise_is_named(breaking: Callable[[Story], object], sentence: str) -> None:
    story = Story()
    breaking(story)
    assert any(sentence in promise for promise in story.broken()), story.broken()


def test_what_nobody_knows_is_tried_again_and_nothing_else() -> None:
    """Neither what a retry settled, nor what was refused, nor what another attempt acknowledged."""
    story = Story()
    assert unsettled(story.calls) == []
    assert unsettled([*story.calls, call(20, "spend", "s9", {"amount": 1}, "unknown")])[0].key == "s9"
    assert [each.key for each in unsettled(story.calls[:12])] == ["g2", "g3"]


def test_an_account_of_which_the_clock_decides_is_not_read_when_it_was_moved() -> None:
    story = Story()
    story.change_call(6, credit=7)
    assert broken_promises(story.calls, story.files) != []
    assert broken_promises(story.calls, story.files, clock_moved=True) == []


@pytest.mark.parametrize(
    ("status", "told", "outcome"),
    [
        (201, {"event": {}}, ("acknowledged", None)),
        (200, {"credit": 1}, ("acknowledged", None)),
        (200, {"err": "...", "code": "code-used"}, ("refused", "code-used")),
        (200, {"err": "..."}, ("refused", "not-logged-in")),
        (409, {"code": "insufficient-credit"}, ("refused", "insufficient-credit")),
        (503, {"code": "not-committed"}, ("refused", "not-committed")),
        (503, {"code": "outcome-unknown"}, ("unknown", "outcome-unknown")),
        (503, {"code": "not-readable"}, ("unknown", "not-readable")),
        (500, {"code": "internal-error"}, ("unknown", "internal-error")),
        (502, {}, ("unknown", None)),
        (200, [], ("unknown", None)),
        (0, {}, ("unknown", None)),
    ],
)
def test_an_answer_is_taken_for_what_it_says(status: int, told: Any, outcome: tuple[str, str | None]) -> None:
    assert outcome_of(status, told) == outcome


def test_the_history_is_kept_in_the_file_of_the_round(tmp_path: Path) -> None:
    part = Round("seed", tmp_path, 1)
    history = History(part)
    for each in Story().calls:
        history.add(each)
    lines = (tmp_path / "history.jsonl").read_bytes().splitlines()
    assert [msgspec.json.decode(line, type=Call) for line in lines] == history.calls
    assert part.tally == {"acknowledged": 10, "unknown": 3, "refused": 3}
