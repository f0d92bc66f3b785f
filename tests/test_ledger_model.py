"""All commands, restarts, sweeps and jumps of the clock, against a model in plain dictionaries."""

import tempfile
from pathlib import Path
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
WHO = st.sampled_from(["oAnna"] * 9 + ["oBo"] * 5 + ["oNobody"])
KINDS = """
    grant grant grant_what_expires grant_what_expires grant_what_expires grant_what_expires spend spend spend
    hold hold hold capture capture release reverse reverse reverse revoke freeze unfreeze unfreeze
    check_in sweep register
""".split()
SOME = st.integers(1, 12)
# A whole account's lifetime in one grant is rare, and would refuse nearly all that follows.
MUCH = st.integers(0, 60).map(lambda chance: model.MAX_CREDIT - 50 if chance == 0 else chance % 12 + 1)
PART = st.none() | st.integers(1, 6)
# From now on: at once or before, soon on a grid that deadlines and expiries share, and days away.
AHEAD = st.sampled_from([-1, 0, 1, 7, 10, 10, 20, 20, 30, 30, 50, 50, DAY_US, DAY_US, 3 * DAY_US])
REFERENCE = st.sampled_from([None, "order 7"])
RULE_TABLES = st.sampled_from([((5,), "2026"), ((1, 2, 3), "2027")])


class Ledger(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="ledger-")
        self.path = Path(self.directory.name) / "ledger.db"
        create(self.path, APPID)
        self.now_us = SINCE_US
        self.keys = 0
        self.accounts = {openid: model.nobody() for openid in (*PEOPLE, "oNobody")}
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

    def key(self) -> str:
        self.keys += 1
        return f"k{self.keys}"

    def submit(self, submission: Submission) -> None:
        """Hand it to both, and compare what they answer."""
        openid = submission.command.openid
        before = self.accounts[openid]
        self.sent.append(submission)
        (told,) = self.committer.commit([submission])
        try:
            after = model.submit(before, submission, self.now_us)
        except model.Refused as refused:
            assert isinstance(told, Refusal), (told, refused)
            assert (told.code, told.figures()) == (refused.code, refused.figures)
            return
        assert isinstance(told, Outcome), told
        key = getattr(submission.command, "key", None)
        if after is before and key in before["keys"]:
            assert (told.replayed, told.version, told.credit) == (True, *before["keys"][key][1:])
            return
        new = after["history"][model.version(before) :]
        assert [(row.type, row.recorded_at_us, row.credit) for row in told.events] == new
        assert (told.version, told.credit) == (model.version(after), model.credit(after))
        if new and not submission.dry_run:
            self.accounts[openid] = after
            self.forget(openid, max(self.now_us, model.last_us(before)), len(new) > 0)

    def forget(self, openid: str, recorded_at_us: int, wrote: bool) -> None:
        """A read at the moment of a later event did not see it; nor did one before which the clock ran back."""
        if wrote:
            gone = [seen for seen in self.seen if seen[0] == openid and seen[1] >= recorded_at_us]
            for seen in gone:
                del self.seen[seen]

    def do(self, data: st.DataObject, command: Command) -> None:
        state = model.at(self.accounts[command.openid], self.now_us)
        here = model.version(state)
        submission = Submission(
            command,
            ACTOR,
            operator=data.draw(st.sampled_from([False, False, True]), "operator"),
            expected_version=data.draw(st.sampled_from([None] * 8 + [here] * 3 + [here - 1]), "expected"),
            dry_run=data.draw(st.sampled_from([False] * 9 + [True]), "dry run"),
        )
        self.submit(submission)
        if submission.dry_run and data.draw(st.booleans(), "then in earnest"):
            self.submit(Submission(command, ACTOR, submission.operator, submission.expected_version))
        self.now_us += data.draw(st.sampled_from([0, 1, 1, 2]), "tick")

    def some(self, data: st.DataObject, openid: str, kind: str) -> int:
        """Mostly the version of an event of that kind, sometimes any."""
        known = sorted(self.accounts[openid][kind])
        return int(data.draw(st.sampled_from(known) if known and data.draw(SOME) > 1 else st.integers(1, 30)))

    @initialize(signup_grant=st.sampled_from([0, 1, 100]))
    def begin(self, signup_grant: int) -> None:
        for openid in PEOPLE:
            self.submit(Submission(RegisterUser(openid, signup_grant), ACTOR))

    @rule(data=st.data(), kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8))
    def use_accounts(self, data: st.DataObject, kinds: list[str]) -> None:
        """Several commands a step, and not a rule for each of them: hypothesis switches rules off for a whole run."""
        for kind in kinds:
            openid = data.draw(WHO, "openid")
            self.do(data, getattr(self, kind)(data, openid))

    def grant(self, data: st.DataObject, openid: str) -> Command:
        amount, ahead, reference = data.draw(st.tuples(MUCH, AHEAD | st.none(), REFERENCE))
        return GrantCredit(openid, amount, "gift", self.key(), reference, self.ahead(ahead))

    def grant_what_expires(self, data: st.DataObject, openid: str) -> Command:
        amount, ahead = data.draw(st.tuples(SOME, AHEAD))
        return GrantCredit(openid, amount, "campaign", self.key(), None, self.ahead(ahead))

    def ahead(self, ahead: int | None) -> int | None:
        if ahead is None or ahead < 10:
            return None if ahead is None else self.now_us + ahead
        return self.now_us // 10 * 10 + ahead

    def spend(self, data: st.DataObject, openid: str) -> Command:
        amount, reference = data.draw(st.tuples(st.one_of(SOME, st.integers(1, 150)), REFERENCE))
        return SpendCredit(openid, amount, "order", self.key(), reference)

    def hold(self, data: st.DataObject, openid: str) -> Command:
        amount, ahead, reference = data.draw(st.tuples(SOME, AHEAD | st.none(), REFERENCE))
        return HoldCredit(openid, amount, "order", self.key(), reference, self.ahead(ahead))

    def capture(self, data: st.DataObject, openid: str) -> Command:
        return CaptureHold(openid, self.some(data, openid, "holds"), "shipped", self.key(), data.draw(PART))

    def release(self, data: st.DataObject, openid: str) -> Command:
        return ReleaseHold(openid, self.some(data, openid, "held_once"), "cancelled", self.key())

    def reverse(self, data: st.DataObject, openid: str) -> Command:
        return ReverseSpend(openid, self.some(data, openid, "spends"), "refund", self.key(), data.draw(PART))

    def revoke(self, data: st.DataObject, openid: str) -> Command:
        return RevokeGrant(openid, self.some(data, openid, "grants"), "mistake", self.key())

    def freeze(self, data: st.DataObject, openid: str) -> Command:
        return FreezeAccount(openid, "asked for", self.key())

    def unfreeze(self, data: st.DataObject, openid: str) -> Command:
        return UnfreezeAccount(openid, "asked for", self.key())

    def check_in(self, data: st.DataObject, openid: str) -> Command:
        return CheckIn(openid, self.key(), *data.draw(RULE_TABLES))

    def sweep(self, data: st.DataObject, openid: str) -> Command:
        return RecordLapses(openid)

    def register(self, data: st.DataObject, openid: str) -> Command:
        return RegisterUser("oBo" if openid == "oNobody" else openid, 5)

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        self.submit(data.draw(st.sampled_from(self.sent)))

    @rule(data=st.data(), amount=SOME)
    def use_a_key_again(self, data: st.DataObject, amount: int) -> None:
        earlier = data.draw(st.sampled_from(self.sent)).command
        key = getattr(earlier, "key", None) or self.key()
        self.submit(Submission(GrantCredit(earlier.openid, amount, "another", key), ACTOR))

    @rule(jump=st.sampled_from([1, 5, 9, 10, 25, DAY_US // 3, DAY_US, 2 * DAY_US, 8 * DAY_US]))
    def wait(self, jump: int) -> None:
        self.now_us += jump

    @rule(data=st.data(), off_by=st.sampled_from([-1, 0, 0, 0, 1]))
    def wait_for_what_is_due(self, data: st.DataObject, off_by: int) -> None:
        states = [model.at(state, self.now_us) for state in self.accounts.values()]
        ends = [hold["deadline"] for state in states for hold in state["holds"].values()]
        ends += [expires for state in states for expires, _, _ in model.lots(state)]
        if ends:
            self.now_us = max(self.now_us, data.draw(st.sampled_from(sorted(ends))) + off_by)

    @rule(back=st.sampled_from([1, 10, 30, DAY_US]))
    def let_the_clock_run_backwards(self, back: int) -> None:
        self.now_us -= back

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule()
    def audit(self) -> None:
        assert_sound(self.path)

    @rule()
    def look_back(self) -> None:
        for (openid, moment), (account, standing) in self.seen.items():
            then = self.reader.account_as_of(openid, moment)
            assert then == account
            assert then is None or Standing(then.version, then.balance.credit) == standing

    @rule()
    def read_statements(self) -> None:
        for openid, state in self.accounts.items():
            page = self.reader.page(openid, self.now_us, limit=100)
            told = [(row.type, row.recorded_at_us, row.credit) for row in reversed(page.events)]
            assert told == model.at(state, self.now_us)["history"][-100:]

    @invariant()
    def every_account_is_what_the_model_says(self) -> None:
        for openid, recorded in self.accounts.items():
            state = model.at(recorded, self.now_us)
            account = self.reader.account(openid, self.now_us)
            standing = self.reader.standing(openid, self.now_us)
            if not model.version(state):
                assert (account, standing) == (None, None)
                continue
            assert account is not None
            balance = account.balance
            assert standing == Standing(account.version, balance.credit)
            assert (account.version, balance.credit) == (model.version(state), model.credit(state))
            assert balance.held == model.held(state)
            assert [tuple(getattr(lot, each) for each in lot.__struct_fields__) for lot in balance.lots] == (
                model.lots(state)
            )
            assert {hold.version: (hold.amount, hold.deadline_us) for hold in balance.holds} == {
                number: (hold["amount"], hold["deadline"]) for number, hold in state["holds"].items()
            }
            for name in ("granted", "spent", "expired", "revoked", "frozen", "streak"):
                assert getattr(balance, name) == state[name], name
            assert balance.checkin_day == state["day"]
            self.seen[openid, max(self.now_us, account.recorded_at_us)] = (account, standing)

    @invariant()
    def nothing_is_negative_and_all_that_was_granted_is_somewhere(self) -> None:
        accounts = [self.reader.account(openid, self.now_us) for openid in self.accounts]
        balances = [account.balance for account in accounts if account is not None]
        for balance in balances:
            parts = (balance.credit, balance.held, balance.spent, balance.expired, balance.revoked)
            assert min(parts) >= 0
            assert sum(parts) == balance.granted
            assert 0 <= balance.expiring <= balance.credit
        granted = sum(grant["amount"] for state in self.accounts.values() for grant in state["grants"].values())
        assert granted == sum(
            balance.credit + balance.held + balance.spent + balance.expired + balance.revoked
            for balance in balances
        )

    def teardown(self) -> None:
        self.look_back()
        self.close()
        assert_sound(self.path)
        assert replay(self.path).differences == []
        recorded = sum(model.version(state) for state in self.accounts.values())
        assert len(log_of(self.path)) == recorded
        self.directory.cleanup()


def test_the_ledger_does_what_the_model_says_whatever_is_done_to_it() -> None:
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            # Three accounts and a disk for each example: it is slow to draw, not too slow to run.
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
