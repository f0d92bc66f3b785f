"""A history rewritten by somebody who knows the format: every hash is right, and what cannot be is named."""

import re
from pathlib import Path

import pytest

from ledger.account import GENESIS, Account
from ledger.chain import event_hash
from ledger.events import (
    AccountFrozen,
    AccountUnfrozen,
    CheckedIn,
    CreditExpired,
    CreditGranted,
    CreditHeld,
    CreditSpent,
    Event,
    GrantRevoked,
    HoldCaptured,
    HoldReleased,
    Part,
    Parts,
    SpendReversed,
    UserRegistered,
    encode,
)
from ledger.follow import Corrections, Wrong, follow
from ledger.replay import replay_and_write
from ledger.sqlite import connect
from ledger.verify import audit
from tests.ledger_samples import SINCE_US, assert_sound, log_of

WHO = "key:shop"
ENDS, DEADLINE = SINCE_US + 30, SINCE_US + 20
# An event, the credit column beside it, and when it was recorded, behind SINCE_US.
Line = tuple[Event, int, int]


def forge(path: Path, *lines: Line) -> None:
    """Write them as the whole account of oAnna, chained as they should be."""
    connection = connect(path)
    head = GENESIS
    for version, (event, credit, at) in enumerate(lines, 1):
        name, data = type(event).__name__, encode(event)
        row = (b"oAnna", version, name.encode(), data, credit, None, None, SINCE_US + at)
        head = event_hash(head, *row)
        connection.execute(
            "INSERT INTO event (openid, version, type, data, credit, recorded_at, hash)"
            " VALUES ('oAnna', ?, ?, ?, ?, ?, ?)",
            (version, name, data.decode(), credit, SINCE_US + at, head),
        )
    connection.close()


# 10 credits for ever and 5 until 30 (grant 3); 6 of both are held until 20 (hold 4), and 3 are spent (5).
START: list[Line] = [
    (UserRegistered(), 0, 0),
    (CreditGranted(10, "gift", WHO), 10, 0),
    (CreditGranted(5, "campaign", WHO, None, ENDS), 15, 1),
    (CreditHeld(6, (Part(4, 3, ENDS), Part(2)), DEADLINE, "order", WHO), 9, 2),
    (CreditSpent(3, (Part(1, 3, ENDS), Part(2)), "order", WHO), 6, 3),
]
RELEASED: Line = (
    HoldReleased(4, 6, "deadline", "rule:deadline", (Part(4, 3, ENDS), Part(2))),
    12,
    20,
)
EXPIRED: Line = (CreditExpired(4, (Part(4, 3, ENDS),), "expiry", "rule:expiry"), 8, 30)


def capture(amount: int, used: Parts, returned: Parts = (), expired: int = 0, hold: int = 4) -> HoldCaptured:
    return HoldCaptured(hold, amount, used, "shipped", WHO, returned, expired)


def release(amount: int, returned: Parts, expired: int = 0, hold: int = 4, actor: str = WHO) -> HoldReleased:
    return HoldReleased(hold, amount, "cancelled", actor, returned, expired)


HELD: Parts = (Part(4, 3, ENDS), Part(2))
POSSIBLE: dict[str, list[Line]] = {
    "what lapses does so": [RELEASED, EXPIRED, (CreditGranted(1, "gift", WHO), 9, 31)],
    "a capture": [(capture(5, (Part(4, 3, ENDS), Part(1)), (Part(1),)), 7, 4)],
    "a release": [(release(6, HELD), 12, 4)],
    "a reversal": [(SpendReversed(5, 3, "refund", WHO, (Part(1, 3, ENDS), Part(2))), 9, 4)],
    "a revocation": [(GrantRevoked(2, 6, 2, 2, "mistake", WHO), 0, 4)],
}


@pytest.mark.parametrize("lines", POSSIBLE.values(), ids=POSSIBLE.keys())
def test_what_is_forged_without_a_contradiction_is_good(ledger_path: Path, lines: list[Line]) -> None:
    """That the faults below are those of the facts and not of the forger's hand."""
    forge(ledger_path, *START, *lines)
    assert [fault.what for fault in audit(ledger_path).faults] == ["account"]
    replay_and_write(ledger_path)
    assert_sound(ledger_path)


# name: (what happened after START, what the audit calls the last of it, and a part of what it says)
IMPOSSIBLE: dict[str, tuple[list[Line], str, str]] = {
    "a release that is missing": (
        [(CreditGranted(1, "gift", WHO), 7, 20)],
        "lapse",
        f'"hold":4,"reason":"deadline".* was due at {DEADLINE} and is not there',
    ),
    "an expiry that is missing": (
        [RELEASED, (CreditSpent(4, (Part(4, 3, ENDS),), "order", WHO), 8, 30)],
        "lapse",
        f'"reason":"expiry".* was due at {ENDS} and is not there',
    ),
    "an expiry before the release that comes first": ([(EXPIRED[0], 8, 30)], "lapse", "was due"),
    "an early expiry": (
        [RELEASED, (EXPIRED[0], 8, 29)],
        "lapse",
        f"nothing was due to lapse at {ENDS - 1}",
    ),
    "a late expiry": ([RELEASED, (EXPIRED[0], 8, 31)], "lapse", "was due"),
    "an expiry of a part": (
        [RELEASED, (CreditExpired(3, (Part(3, 3, ENDS),), "expiry", "rule:expiry"), 9, 30)],
        "lapse",
        "was due",
    ),
    "an expiry that somebody did": (
        [RELEASED, (CreditExpired(4, (Part(4, 3, ENDS),), "expiry", "key:thief"), 8, 30)],
        "lapse",
        "was due",
    ),
    "an expiry of what never expires": (
        [(CreditExpired(6, (Part(6),), "expiry", "rule:expiry"), 0, 5)],
        "lapse",
        "nothing was due",
    ),
    "a second expiry": ([RELEASED, EXPIRED, (EXPIRED[0], 4, 30)], "lapse", "nothing was due"),
    "a release by the deadline before the deadline": (
        [(RELEASED[0], 12, 19)],
        "lapse",
        f"nothing was due to lapse at {DEADLINE - 1}",
    ),
    "a release by the deadline of a hold that has later": (
        [(release(6, HELD, actor="rule:deadline"), 12, 4)],
        "lapse",
        "nothing was due",
    ),
    "a capture of less than its parts": (
        [(capture(5, HELD, (Part(1),)), 7, 4)],
        "impossible",
        "the parts of capture 6 are not what hold 4 held",
    ),
    "a capture that loses a part of the hold": (
        [(capture(5, (Part(4, 3, ENDS), Part(1))), 6, 4)],
        "impossible",
        "the parts of capture 6 are not what hold 4 held",
    ),
    "a capture that gives back more than was held": (
        [(capture(5, (Part(4, 3, ENDS), Part(1)), (Part(2),)), 8, 4)],
        "impossible",
        "not what hold 4 held",
    ),
    "a capture of a hold that never was": ([(capture(6, HELD, hold=5), 6, 4)], "impossible", "event 5 is not"),
    "a second capture": (
        [(capture(6, HELD), 6, 4), (capture(6, HELD), 6, 5)],
        "impossible",
        "event 4 is not an open hold",
    ),
    "a release of a captured hold": (
        [(capture(6, HELD), 6, 4), (release(6, HELD), 12, 5)],
        "impossible",
        "event 4 is not an open hold",
    ),
    "a release of another amount": ([(release(5, HELD), 12, 4)], "impossible", "the parts of release 6"),
    "a release of less": ([(release(6, HELD[:1]), 10, 4)], "impossible", "the parts of release 6"),
    "more reversed than was spent": (
        [(SpendReversed(5, 4, "refund", WHO, (Part(4),)), 10, 4)],
        "invariant",
        "after it it has less than nothing of something",
    ),
    "a reversal of less than its parts": (
        [(SpendReversed(5, 3, "refund", WHO, (Part(3),), 1), 9, 4)],
        "impossible",
        "the parts of reversal 6 are not its amount",
    ),
    "a spend of more than a grant has left": (
        [(release(6, HELD), 12, 4), (CreditSpent(5, (Part(5, 3, ENDS),), "order", WHO), 7, 5)],
        "impossible",
        "more is taken of grant 3 than it has left",
    ),
    "a spend that takes more of a grant in two parts": (
        [(release(6, HELD), 12, 4), (CreditSpent(6, (Part(3, 3, ENDS),) * 2, "order", WHO), 6, 5)],
        "impossible",
        "more is taken of grant 3 than it has left",
    ),
    "a spend of a grant that is used up": (
        [(CreditSpent(1, (Part(1, 3, ENDS),), "order", WHO), 5, 4)],
        "impossible",
        "grant 3 has nothing left to take",
    ),
    "a spend that says another end of a grant": (
        [(release(6, HELD), 12, 4), (CreditSpent(1, (Part(1, 3, ENDS + 1),), "order", WHO), 11, 5)],
        "impossible",
        "grant 3 has nothing left to take that expires at",
    ),
    "a reversal that gives a grant another end": (
        [
            (release(6, HELD), 12, 4),
            (SpendReversed(5, 1, "refund", WHO, (Part(1, 3, ENDS + 1),)), 13, 5),
        ],
        "impossible",
        "grant 3 cannot have two ends",
    ),
    "a reversal that gives a grant no end": (
        [(SpendReversed(5, 1, "refund", WHO, (Part(1, 3),)), 7, 4)],
        "impossible",
        "a part has a grant and no end",
    ),
    "a second registration": ([(UserRegistered(), 6, 4)], "impossible", "begins by being registered, once"),
    "a second check-in on a day": (
        [(CheckedIn(19676, 1, "1"), 6, 4), (CheckedIn(19676, 2, "1"), 6, 5)],
        "impossible",
        "checked in on day 19676 after day 19676",
    ),
    "a second freezing": (
        [(AccountFrozen("theft", WHO), 6, 4), (AccountFrozen("theft", WHO), 6, 5)],
        "impossible",
        "frozen twice",
    ),
    "an unfreezing of what is not frozen": (
        [(AccountUnfrozen("sorry", WHO), 6, 4)],
        "impossible",
        "was not frozen",
    ),
    "a spend that is more than its parts": (
        [(CreditSpent(2, (Part(1),), "order", WHO), 4, 4)],
        "impossible",
        "parts of 1 for an amount of 2",
    ),
    "a hold that is more than its parts": (
        [(CreditHeld(2, (Part(1),), DEADLINE, "order", WHO), 4, 4)],
        "impossible",
        "parts of 1 for an amount of 2",
    ),
    "a spend of what belongs to an expiring grant as if it never expired": (
        [(release(6, HELD), 12, 4), (CreditSpent(9, (Part(9),), "order", WHO), 3, 5)],
        "invariant",
        "its lots do not fit in its credit of 3",
    ),
    "a spend of more than there is": (
        [(CreditSpent(7, (Part(7),), "order", WHO), 0, 4)],
        "credit",
        "the events come to -1, stored is 0",
    ),
    "a revocation of more than there is": (
        [(release(6, HELD), 12, 4), (GrantRevoked(3, 5, 0, 0, "mistake", WHO), 7, 5)],
        "impossible",
        "more is taken of grant 3",
    ),
    "a reversal of what is no spend": (
        [(SpendReversed(2, 1, "refund", WHO, (Part(1),)), 7, 4)],
        "impossible",
        "event 2, which it reverses, is no spend",
    ),
    "a reversal of a later event": (
        [(SpendReversed(7, 1, "refund", WHO, (Part(1),)), 7, 4)],
        "impossible",
        "event 7, which it reverses, is no spend",
    ),
    "more reversed than that event spent": (
        [
            (CreditSpent(5, (Part(5),), "order", WHO), 1, 4),
            (SpendReversed(5, 4, "refund", WHO, (Part(1, 3, ENDS), Part(3))), 5, 5),
        ],
        "impossible",
        "event 5 spent 3, and 0 of that had come back before",
    ),
    "two reversals of more than that event spent": (
        [
            (CreditSpent(5, (Part(5),), "order", WHO), 1, 4),
            (SpendReversed(5, 2, "refund", WHO, (Part(2),)), 3, 5),
            (SpendReversed(5, 2, "refund", WHO, (Part(2),)), 5, 6),
        ],
        "impossible",
        "event 5 spent 3, and 2 of that had come back before",
    ),
    "a reversal to another lot than was used": (
        [(SpendReversed(5, 3, "refund", WHO, (Part(2, 3, ENDS), Part(1))), 9, 4)],
        "impossible",
        "what it returns is not what event 5 used",
    ),
    "a second reversal of the same lot": (
        [
            (SpendReversed(5, 1, "refund", WHO, (Part(1, 3, ENDS),)), 7, 4),
            (SpendReversed(5, 1, "refund", WHO, (Part(1, 3, ENDS),)), 8, 5),
        ],
        "impossible",
        "what it returns is not what event 5 used",
    ),
    "a reversal that lets expire what never does": (
        [(SpendReversed(5, 1, "refund", WHO, (), 1), 6, 4)],
        "impossible",
        "more expired than event 5 used of what has ended",
    ),
    "a reversal to a lot that is over": (
        [RELEASED, EXPIRED, (SpendReversed(5, 1, "refund", WHO, (Part(1, 3, ENDS),)), 9, 31)],
        "impossible",
        "what it returns is not what event 5 used",
    ),
    "a reversal to a lot that ends at that moment": (
        [RELEASED, EXPIRED, (SpendReversed(5, 1, "refund", WHO, (Part(1, 3, ENDS),)), 9, 30)],
        "impossible",
        "what it returns is not what event 5 used",
    ),
    "a release to another lot than was held": (
        [(release(6, (Part(3, 3, ENDS), Part(3))), 12, 4)],
        "impossible",
        "its parts are not what hold 4 held",
    ),
    "a capture from another lot than was held": (
        [(capture(5, (Part(3, 3, ENDS), Part(2)), (Part(1),)), 7, 4)],
        "impossible",
        "its parts are not what hold 4 held",
    ),
    "a release that lets expire what is still good": (
        [(release(6, (Part(2),), 4), 8, 4)],
        "impossible",
        "its parts are not what hold 4 held",
    ),
    "a revocation of what is no grant": (
        [(GrantRevoked(5, 3, 0, 0, "mistake", WHO), 3, 4)],
        "impossible",
        "event 5, which it revokes, is no grant",
    ),
    "a revocation of more than was granted": (
        [(GrantRevoked(2, 6, 3, 2, "mistake", WHO), 0, 4)],
        "impossible",
        "event 2 granted 10",
    ),
    "a second revocation of the same": (
        [
            (GrantRevoked(2, 6, 2, 2, "mistake", WHO), 0, 4),
            (CreditGranted(6, "gift", WHO), 6, 5),
            (GrantRevoked(2, 6, 2, 2, "mistake", WHO), 0, 6),
        ],
        "impossible",
        "6 were revoked before: event 2 granted 10",
    ),
    "a revocation that says another part is held": (
        [(GrantRevoked(2, 6, 3, 1, "mistake", WHO), 0, 4)],
        "impossible",
        "it says that 1 are held, open holds have 2 of that lot",
    ),
    "a revocation of an expiring grant from credit that never expires": (
        [(GrantRevoked(3, 2, 0, 3, "mistake", WHO), 4, 4)],
        "impossible",
        "nothing was left of event 3",
    ),
    "a grant of more than it says beside it": ([(CreditGranted(1, "gift", WHO), 8, 4)], "credit", "come to 7"),
    "an event before the one that it follows": ([(CreditGranted(1, "gift", WHO), 7, 2)], "time", "before"),
}


@pytest.mark.parametrize(("lines", "what", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_history_is_named_although_every_hash_is_right(
    ledger_path: Path, lines: list[Line], what: str, said: str
) -> None:
    forge(ledger_path, *START, *lines)
    (fault,) = audit(ledger_path).faults
    assert (fault.openid, fault.version, fault.what) == ("oAnna", len(START) + len(lines), what)
    assert re.search(said, fault.detail), fault.detail


@pytest.mark.parametrize("changed", [{"version": 2}, {"openid": b"oBo"}])
def test_an_index_that_leads_to_another_event_is_not_believed(
    ledger_path: Path, changed: dict[str, object]
) -> None:
    """In a damaged file it can: what is corrected would be told from the event of somebody else."""
    forge(ledger_path, *START, (SpendReversed(5, 1, "refund", WHO, (Part(1),)), 7, 4))
    rows = log_of(ledger_path)
    account = Account("oAnna")
    for row in rows[:5]:
        account = follow(account, row)
    spend = rows[4]
    Corrections(lambda openid, version: spend).check(account, rows[5])
    other = spend._replace(**changed)
    with pytest.raises(Wrong, match="event 5, which it reverses, is no spend of this account"):
        Corrections(lambda openid, version: other).check(account, rows[5])
