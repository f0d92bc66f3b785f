"""All commands, restarts, sweeps and jumps of the clock, against a model in plain dictionaries."""

import tempfile
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from ledger.commands import (
    CaptureHold,
    CheckIn,
    Command,
    FreezeAccount,
    GrantCredit,
    HoldCredit,
    RecordLapses,
    RegisterUser,
    ReleaseHold,
    ReverseSpend,
    RevokeGrant,
    SpendCredit,
    Submission,
    UnfreezeAccount,
)
from ledger.committer import ledger_committer
from ledger.errors import Refusal
from ledger.execute import Outcome
from ledger.replay import replay
from ledger.schema import create
from ledger.statement import Reader, Standing
from tests import ledger_model as model
from tests.ledger_samples import ACTOR, APPID, DAY_US, SINCE_US, assert_sound, log_of

PEOPLE = ("oAnna", "oBo")
EVERYBODY = (*PEOPLE, "oNobody")
# What is handed in, and how often among a hundred or so.
WEIGHTS = {
    "grant": 10, "campaign": 20, "spend": 16, "hold": 14, "capture": 8, "release": 3, "reverse": 10,
    "revoke": 6, "freeze": 1, "unfreeze": 3, "check_in": 5, "sweep": 3, "register": 2,
}  # fmt: skip
# From now on: at once or before, soon on a grid that deadlines and expiries share, and days away.
AHEAD_US = (-1, 0, 1, 7, 10, 10, 20, 20, 30, 30, 50, 50, 90, DAY_US, DAY_US, 3 * DAY_US)
RULE_TABLES = (((5,), "2026"), ((1, 2, 3), "2027"))
# Hypothesis draws few and alike values for one run; what makes a long life varied is drawn from these.
CHANCES = st.randoms(use_true_random=True)


class Ledger(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="ledger-")
        self.path = Path(self.directory.name) / "ledger.db"
        create(self.path, APPID)
        self.now_us = SINCE_US
        self.keys = 0
        self.accounts = {openid: model.nobody() for openid in EVERYBODY}
        self.sent: list[Submission] = []
        # What live reads said: openid, moment -> the account and its standing.
        self.seen: dict[tuple[str, int], tuple[Any, Any]] = {}
        self.open()

    def open(self) -> None:
        self.committer = ledger_committer(self.path, clock_us=lambda: self.now_us)
        self.reader = Reader(self.path)

    def close(self) -> None:
        self.committer.close()
        self.reader.close()

    @initialize(signup_grant=st.sampled_from([0, 1, 100]))
    def begin(self, signup_grant: int) -> None:
        for openid in PEOPLE:
            self.submit(Submission(RegisterUser(openid, signup_grant), ACTOR))

    @rule(chance=CHANCES, commands=st.integers(1, 30))
    def use_accounts(self, chance: Random, commands: int) -> None:
        for _ in range(commands):
            (kind,) = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
            (openid,) = chance.choices(EVERYBODY, [20, 10, 1])
            if chance.random() < 0.15:
                self.wait_for_what_is_due(chance, chance.choice((-1, 0, 0, 1)))
                kind = chance.choice((kind, "capture", "release", "reverse"))
            self.hand_in(chance, getattr(self, f"a_{kind}")(chance, openid))
            self.now_us += chance.choice((0, 1, 1, 2, 5))
            self.every_account_is_what_the_model_says()

    @rule(chance=CHANCES)
    def send_again_what_was_sent(self, chance: Random) -> None:
        self.submit(chance.choice(self.sent))

    @rule(chance=CHANCES)
    def use_a_key_for_something_else(self, chance: Random) -> None:
        earlier = chance.choice(self.sent).command
        key = getattr(earlier, "key", None) or self.key()
        self.submit(Submission(GrantCredit(earlier.openid, 1, "another", key), ACTOR))

    @rule(jump_us=st.sampled_from([1, 5, 9, 10, 25, DAY_US // 3, DAY_US, 2 * DAY_US, 8 * DAY_US]))
    def wait(self, jump_us: int) -> None:
        self.now_us += jump_us

    @rule(chance=CHANCES, off_by_us=st.sampled_from([-1, 0, 0, 0, 1]))
    def wait_for_what_is_due(self, chance: Random, off_by_us: int) -> None:
        states = [model.at(state, self.now_us) for state in self.accounts.values()]
        ends = [hold["deadline"] for state in states for hold in state["holds"].values()]
        ends += [expires for state in states for expires, _, _ in model.lots(state)]
        if ends:
            self.now_us = max(self.now_us, chance.choice(ends) + off_by_us)

    @rule(chance=CHANCES, back_us=st.sampled_from([1, 10, 30, DAY_US]))
    def let_the_clock_run_backwards(self, chance: Random, back_us: int) -> None:
        self.now_us -= back_us
        self.use_accounts(chance, 6)

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule()
    def audit(self) -> None:
        assert_sound(self.path)

    @rule(chance=CHANCES)
    def look_back(self, chance: Random, at_most: int = 20) -> None:
        """What any live read said is what the log says of that moment, then and now."""
        reads = list(self.seen.items())
        for (openid, moment), (account, standing) in chance.sample(reads, min(at_most, len(reads))):
            then = self.reader.account_as_of(openid, moment)
            assert then == account
            assert Standing(then.version, then.balance.credit) == standing

    @rule()
    def read_statements(self) -> None:
        for openid, state in self.accounts.items():
            page = self.reader.page(openid, self.now_us, limit=100)
            told = [(row.type, row.recorded_at_us, row.credit) for row in reversed(page.events)]
            assert told == model.at(state, self.now_us)["history"][-100:]

    @invariant()
    def every_account_is_what_the_model_says(self) -> None:
        granted = accounted = 0
        for openid, recorded in self.accounts.items():
            state = model.at(recorded, self.now_us)
            account = self.reader.account(openid, self.now_us)
            standing = self.reader.standing(openid, self.now_us)
            if account is None:
                assert (model.version(state), standing) == (0, None)
                continue
            balance = account.balance
            assert standing == Standing(account.version, balance.credit)
            assert (account.version, balance.credit) == (model.version(state), model.credit(state))
            assert balance.held == model.held(state)
            lots = [(lot.expires_at_us, lot.grant, lot.credit) for lot in balance.lots]
            assert lots == model.lots(state)
            assert {hold.version: (hold.amount, hold.deadline_us) for hold in balance.holds} == {
                number: (hold["amount"], hold["deadline"]) for number, hold in state["holds"].items()
            }
            for name in ("granted", "spent", "expired", "revoked", "frozen", "streak"):
                assert getattr(balance, name) == state[name], name
            assert balance.checkin_day == state["day"]
            parts = (balance.credit, balance.held, balance.spent, balance.expired, balance.revoked)
            assert min(parts) >= 0
            assert sum(parts) == balance.granted
            accounted += sum(parts)
            granted += sum(grant["amount"] for grant in state["grants"].values())
            self.seen[openid, max(self.now_us, account.recorded_at_us)] = (account, standing)
        assert granted == accounted

    def teardown(self) -> None:
        self.look_back(Random(0), at_most=100)
        self.close()
        assert_sound(self.path)
        assert replay(self.path).differences == []
        assert len(log_of(self.path)) == sum(model.version(state) for state in self.accounts.values())
        self.directory.cleanup()

    def hand_in(self, chance: Random, command: Command) -> None:
        here = model.version(model.at(self.accounts[command.openid], self.now_us))
        expected_version = chance.choice([None] * 9 + [here] * 2 + [here + 1])
        submission = Submission(command, ACTOR, chance.random() < 0.2, expected_version, chance.random() < 0.1)
        self.submit(submission)
        if submission.dry_run and chance.random() < 0.5:
            self.submit(Submission(command, ACTOR, submission.operator, expected_version))

    def submit(self, submission: Submission) -> None:
        """Hand it to both, and compare what they answer."""
        openid = submission.command.openid
        before = self.accounts[openid]
        self.sent.append(submission)
        (told,) = self.committer.commit([submission])
        after = model.answer(before, submission, self.now_us)
        if isinstance(after, model.Refused):
            assert isinstance(told, Refusal), (told, after)
            assert (told.code, told.figures()) == (after.code, after.figures)
            return
        assert isinstance(told, Outcome), told
        if after is before:
            _, version, credit = before["keys"][submission.command.key]  # type: ignore[union-attr]
            assert (told.replayed, told.version, told.credit) == (True, version, credit)
            return
        new = after["history"][model.version(before) :]
        assert [(row.type, row.recorded_at_us, row.credit) for row in told.events] == new
        assert (told.version, told.credit) == (model.version(after), model.credit(after))
        if new and not submission.dry_run:
            self.accounts[openid] = after
            # A read at the moment of a later event did not see it; nor one from which the clock ran back.
            moment = max(self.now_us, model.last_us(before))
            self.seen = {
                read: said for read, said in self.seen.items() if read[0] != openid or read[1] < moment
            }

    def key(self) -> str:
        self.keys += 1
        return f"k{self.keys}"

    def some(self, chance: Random, openid: str, kind: str) -> int:
        """Mostly the version of an event of that kind, sometimes any."""
        known = list(self.accounts[openid][kind])
        return chance.choice(known) if known and chance.random() < 0.9 else chance.randint(1, 30)

    def ahead_us(self, chance: Random) -> int:
        ahead_us = chance.choice(AHEAD_US)
        return self.now_us + ahead_us if ahead_us < 10 else self.now_us // 10 * 10 + ahead_us

    def a_grant(self, chance: Random, openid: str) -> Command:
        # A whole account's lifetime in one grant is rare, and refuses nearly all grants that follow.
        amount = model.MAX_CREDIT - 50 if chance.random() < 0.02 else chance.randint(1, 12)
        expires_at_us = self.ahead_us(chance) if chance.random() < 0.3 else None
        return GrantCredit(openid, amount, "gift", self.key(), chance.choice((None, "gift 7")), expires_at_us)

    def a_campaign(self, chance: Random, openid: str) -> Command:
        return GrantCredit(openid, chance.randint(1, 12), "gift", self.key(), None, self.ahead_us(chance))

    def a_spend(self, chance: Random, openid: str) -> Command:
        amount = chance.randint(1, 150) if chance.random() < 0.1 else chance.randint(1, 20)
        return SpendCredit(openid, amount, "order", self.key(), chance.choice((None, "order 7")))

    def a_hold(self, chance: Random, openid: str) -> Command:
        ends = [expires for expires, _, _ in model.lots(self.accounts[openid])]
        deadline_us = chance.choice((None, self.ahead_us(chance), self.ahead_us(chance), *ends[:2]))
        return HoldCredit(openid, chance.randint(1, 20), "order", self.key(), None, deadline_us)

    def a_capture(self, chance: Random, openid: str) -> Command:
        part = chance.choice((None, chance.randint(1, 12)))
        return CaptureHold(openid, self.some(chance, openid, "holds"), "shipped", self.key(), part)

    def a_release(self, chance: Random, openid: str) -> Command:
        return ReleaseHold(openid, self.some(chance, openid, "held_once"), "cancelled", self.key())

    def a_reverse(self, chance: Random, openid: str) -> Command:
        part = chance.choice((None, chance.randint(1, 6)))
        return ReverseSpend(openid, self.some(chance, openid, "spends"), "refund", self.key(), part)

    def a_revoke(self, chance: Random, openid: str) -> Command:
        return RevokeGrant(openid, self.some(chance, openid, "grants"), "mistake", self.key())

    def a_freeze(self, chance: Random, openid: str) -> Command:
        return FreezeAccount(openid, "asked for", self.key())

    def a_unfreeze(self, chance: Random, openid: str) -> Command:
        return UnfreezeAccount(openid, "asked for", self.key())

    def a_check_in(self, chance: Random, openid: str) -> Command:
        return CheckIn(openid, self.key(), *chance.choice(RULE_TABLES))

    def a_sweep(self, chance: Random, openid: str) -> Command:
        return RecordLapses(openid)

    def a_register(self, chance: Random, openid: str) -> Command:
        return RegisterUser("oBo" if openid == "oNobody" else openid, 5)


def test_the_ledger_does_what_the_model_says_whatever_is_done_to_it() -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=90,
            stateful_step_count=40,
            deadline=None,
            # A file is created and synced for each example.
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
