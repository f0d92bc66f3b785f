"""The ledger in plain dictionaries, written from its rules and not from its code: what the real one is held to.

It knows the commands and nothing else of `ledger`. An account is a dictionary; its lots are kept inside its
grants, and `never` is the one lot of all credit that has no end.
"""

import copy
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from ledger.commands import Command, Submission

SHANGHAI = timezone(timedelta(hours=8))
MAX_CREDIT = 2**53 - 1
SEVEN_DAYS_US = 7 * 24 * 3600 * 1_000_000
# All that a frozen account lets through to anybody.
EXEMPT = ("ReverseSpend", "FreezeAccount", "UnfreezeAccount")

State = dict[str, Any]


class Refused(Exception):
    def __init__(self, code: str, **figures: object) -> None:
        super().__init__(code, figures)
        self.code = code
        self.figures = figures


def nobody() -> State:
    return {
        "history": [],  # (type, recorded_at_us, credit) of each event, the first at version 1
        "frozen": False,
        "day": 0,
        "streak": 0,
        "never": 0,
        "grants": {},  # version -> amount, expires, left (0 where it never expires), revoked
        "spends": {},  # version -> amount, parts, reversed
        "holds": {},  # version -> amount, parts, deadline; open ones
        "held_once": set(),
        "granted": 0,
        "spent": 0,
        "expired": 0,
        "revoked": 0,
        "keys": {},  # key -> command, version, credit
    }


def version(state: State) -> int:
    return len(state["history"])


def last_us(state: State) -> int:
    return state["history"][-1][1] if state["history"] else 0  # type: ignore[no-any-return]


def lots(state: State) -> list[tuple[int, int, int]]:
    """(expires, grant, left), first to expire first."""
    return sorted(
        (one["expires"], number, one["left"]) for number, one in state["grants"].items() if one["left"]
    )


def credit(state: State) -> int:
    return int(state["never"] + sum(left for _, _, left in lots(state)))


def held(state: State) -> int:
    return sum(hold["amount"] for hold in state["holds"].values())


def note(state: State, what: str, now_us: int) -> int:
    """Write an event of type `what` into the history; its version."""
    state["history"].append((what, now_us, credit(state)))
    return version(state)


def copied(state: State) -> State:
    """Of all that changes; commands and the parts of a spend do not."""
    inner = {
        name: {number: dict(one) for number, one in state[name].items()}
        for name in ("grants", "spends", "holds")
    }
    whole = {name: copy.copy(state[name]) for name in ("history", "held_once", "keys")}
    return {**state, **inner, **whole}


def at(state: State, now_us: int) -> State:
    """A copy in which everything has lapsed that lapses by itself up to `now_us`."""
    state = copied(state)
    while True:
        ends = [(hold["deadline"], 0, number) for number, hold in state["holds"].items()]
        ends += [(expires, 1, 0) for expires, _, _ in lots(state)]
        if not ends or min(ends)[0] > now_us:
            return state
        moment, is_expiry, number = min(ends)
        if is_expiry:
            for expires, grant, left in lots(state):
                if expires == moment:
                    state["grants"][grant]["left"] = 0
                    state["expired"] += left
            note(state, "CreditExpired", moment)
        else:
            give_back(state, state["holds"].pop(number)["parts"], moment)
            note(state, "HoldReleased", moment)


def take(state: State, amount: int) -> list[tuple[int | None, int]]:
    """Take what expires first, then what never does; the (grant or None, amount) it was taken from."""
    if amount > credit(state):
        expiring = sum(left for _, _, left in lots(state))
        raise Refused(
            "insufficient-credit", available=credit(state), held=held(state), asked=amount, expiring=expiring
        )
    parts: list[tuple[int | None, int]] = []
    for _, grant, left in lots(state):
        some = min(left, amount)
        if some:
            state["grants"][grant]["left"] -= some
            parts.append((grant, some))
            amount -= some
    if amount:
        state["never"] -= amount
        parts.append((None, amount))
    return parts


def give_back(state: State, parts: list[tuple[int | None, int]], now_us: int) -> None:
    for grant, amount in parts:
        if grant is None:
            state["never"] += amount
        elif state["grants"][grant]["expires"] > now_us:
            state["grants"][grant]["left"] += amount
        else:
            state["expired"] += amount


def cut(parts: list[tuple[int | None, int]], amount: int) -> tuple[list[Any], list[Any]]:
    """The parts one credit at a time, the first `amount` of them and the others: slow, and plainly right."""
    each = [grant for grant, number in parts for _ in range(number)]
    return [(grant, 1) for grant in each[:amount]], [(grant, 1) for grant in each[amount:]]


def shanghai_day(now_us: int) -> int:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us)
    return (moment.astimezone(SHANGHAI).date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days


def check_limit(state: State, amount: int) -> None:
    if state["granted"] + amount > MAX_CREDIT:
        raise Refused("credit-limit-exceeded", granted=state["granted"], asked=amount, limit=MAX_CREDIT)


def check_future(moment: int | None, now_us: int) -> None:
    if moment is not None and moment <= now_us:
        raise Refused("not-in-future", asked_us=moment, now_us=now_us)


def submit(state: State, submission: Submission, now_us: int) -> State:
    """The account after it; the same one where it was there already; raises Refused."""
    command, name = submission.command, type(submission.command).__name__
    key = getattr(command, "key", None)
    if key in state["keys"]:
        if state["keys"][key][0] != command:
            raise Refused("key-reused", key=key, version=state["keys"][key][1])
        return state
    now_us = max(now_us, last_us(state))
    before, state = state, at(state, now_us)
    if name == "RegisterUser":
        if not version(state):
            register(state, command, now_us)
        return state
    if not version(state):
        raise Refused("account-not-found", openid=command.openid)
    if submission.expected_version not in (None, version(state)):
        raise Refused("version-mismatch", version=version(state), expected=submission.expected_version)
    if name == "RecordLapses":
        return state
    if before["frozen"] and not submission.operator and name not in EXEMPT:
        raise Refused("account-frozen", openid=command.openid)
    RULES[name](state, command, now_us)
    state["keys"][key] = (command, version(state), credit(state))
    return state


def register(state: State, command: Command, now_us: int) -> None:
    note(state, "UserRegistered", now_us)
    if command.signup_grant:  # type: ignore[union-attr]
        add_grant(state, command.signup_grant, None, now_us)  # type: ignore[union-attr]


def add_grant(state: State, amount: int, expires: int | None, now_us: int) -> None:
    state["granted"] += amount
    entry = {"amount": amount, "expires": expires, "left": 0 if expires is None else amount, "revoked": 0}
    state["grants"][version(state) + 1] = entry
    if expires is None:
        state["never"] += amount
    note(state, "CreditGranted", now_us)


def grant(state: State, command: Any, now_us: int) -> None:
    check_future(command.expires_at_us, now_us)
    check_limit(state, command.amount)
    add_grant(state, command.amount, command.expires_at_us, now_us)


def spend(state: State, command: Any, now_us: int) -> None:
    parts = take(state, command.amount)
    state["spent"] += command.amount
    number = note(state, "CreditSpent", now_us)
    state["spends"][number] = {"amount": command.amount, "parts": parts, "reversed": 0}


def hold(state: State, command: Any, now_us: int) -> None:
    check_future(command.deadline_us, now_us)
    parts = take(state, command.amount)
    deadline = now_us + SEVEN_DAYS_US if command.deadline_us is None else command.deadline_us
    number = note(state, "CreditHeld", now_us)
    state["holds"][number] = {"amount": command.amount, "parts": parts, "deadline": deadline}
    state["held_once"].add(number)


def open_hold(state: State, number: int) -> State:
    if number not in state["held_once"]:
        raise Refused("hold-not-found", hold=number)
    if number not in state["holds"]:
        raise Refused("hold-settled", hold=number)
    return state["holds"][number]  # type: ignore[no-any-return]


def capture(state: State, command: Any, now_us: int) -> None:
    reserved = open_hold(state, command.hold)
    amount = reserved["amount"] if command.part is None else command.part
    if amount > reserved["amount"]:
        raise Refused("capture-exceeds-hold", held=reserved["amount"], asked=amount)
    used, rest = cut(reserved["parts"], amount)
    del state["holds"][command.hold]
    give_back(state, rest, now_us)
    state["spent"] += amount
    number = note(state, "HoldCaptured", now_us)
    state["spends"][number] = {"amount": amount, "parts": used, "reversed": 0}


def release(state: State, command: Any, now_us: int) -> None:
    reserved = open_hold(state, command.hold)
    del state["holds"][command.hold]
    give_back(state, reserved["parts"], now_us)
    note(state, "HoldReleased", now_us)


def reverse(state: State, command: Any, now_us: int) -> None:
    if command.spend not in state["spends"]:
        raise Refused("spend-not-found", spend=command.spend)
    was = state["spends"][command.spend]
    open_amount = was["amount"] - was["reversed"]
    amount = open_amount if command.part is None else command.part
    if amount > open_amount or not open_amount:
        asked = was["amount"] if command.part is None else command.part
        raise Refused("reversal-exceeds-spend", spent=was["amount"], reversed=was["reversed"], asked=asked)
    still_spent, _ = cut(was["parts"], open_amount)
    give_back(state, still_spent[open_amount - amount :], now_us)
    was["reversed"] += amount
    state["spent"] -= amount
    note(state, "SpendReversed", now_us)


def revoke(state: State, command: Any, now_us: int) -> None:
    if command.grant not in state["grants"]:
        raise Refused("grant-not-found", grant=command.grant)
    given = state["grants"][command.grant]
    there = state["never"] if given["expires"] is None else given["left"]
    amount = min(there, given["amount"] - given["revoked"])
    if not amount:
        raise Refused("nothing-to-revoke", granted=given["amount"], revoked=given["revoked"])
    if given["expires"] is None:
        state["never"] -= amount
    else:
        given["left"] -= amount
    given["revoked"] += amount
    state["revoked"] += amount
    note(state, "GrantRevoked", now_us)


def freeze(state: State, command: Any, now_us: int) -> None:
    if state["frozen"]:
        raise Refused("already-frozen", openid=command.openid)
    state["frozen"] = True
    note(state, "AccountFrozen", now_us)


def unfreeze(state: State, command: Any, now_us: int) -> None:
    if not state["frozen"]:
        raise Refused("not-frozen", openid=command.openid)
    state["frozen"] = False
    note(state, "AccountUnfrozen", now_us)


def check_in(state: State, command: Any, now_us: int) -> None:
    today = shanghai_day(now_us)
    if today <= state["day"]:
        epoch = datetime(1970, 1, 1, tzinfo=SHANGHAI)
        tomorrow = (epoch + timedelta(days=state["day"] + 1)).timestamp()
        raise Refused("already-checked-in", streak=state["streak"], next_us=int(tomorrow) * 1_000_000)
    streak = state["streak"] + 1 if today == state["day"] + 1 else 1
    reward = command.rewards[min(streak, len(command.rewards)) - 1]
    check_limit(state, reward)
    state["day"], state["streak"] = today, streak
    note(state, "CheckedIn", now_us)
    add_grant(state, reward, None, now_us)


RULES = {
    "GrantCredit": grant,
    "SpendCredit": spend,
    "HoldCredit": hold,
    "CaptureHold": capture,
    "ReleaseHold": release,
    "ReverseSpend": reverse,
    "RevokeGrant": revoke,
    "FreezeAccount": freeze,
    "UnfreezeAccount": unfreeze,
    "CheckIn": check_in,
}


def answer(state: State, submission: Submission, now_us: int) -> State | Refused:
    """As `submit`, with a refusal as the answer that it is."""
    try:
        return submit(state, submission, now_us)
    except Refused as refused:
        return refused
