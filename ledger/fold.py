"""The events folded into accounts as fast as they can be read: what replay builds its rows from.

It looks at what an account row needs. Of the hashes it only takes the last one over as the head; that they
are right, and that nothing else was tampered with, is the audit's to say.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from ledger.account import GENESIS, Account, Balance, apply, broken_invariant
from ledger.errors import CorruptEvent
from ledger.events import MAX_CREDIT, decode_stored
from ledger.fault import Fault, text_of
from ledger.projection import Row, to_row

# One event as replay reads it: position, openid, version, type, data, credit, recorded_at, hash; text as bytes.
Fact = tuple[Any, ...]

# The fields of an Account behind its openid.
_State = tuple[int, bytes, int, int, Balance]
_NOBODY: Final[_State] = (0, GENESIS, 0, 0, Balance())
_HASH_BYTES: Final = len(GENESIS)


def nobody(_openid: bytes) -> Account | None:
    """Where no account is known before its first event is taken."""
    return None


class Fold:
    """The accounts that events come to, and the first fault of each that has one.

    Give it the events of each account in order. `find` is asked for an account that was folded before, when
    the first further event of it comes.
    """

    def __init__(self, find: Callable[[bytes], Account | None] = nobody) -> None:
        self._find = find
        self._states: dict[bytes, _State] = {}
        self.faults: dict[bytes, Fault] = {}
        self.events = 0

    def take(self, facts: list[Fact]) -> None:
        self.events += len(facts)
        states, faults = self._states, self.faults
        for position, openid, version, type_name, data, credit, recorded_at_us, head in facts:
            if openid in faults:
                continue
            before = 0
            try:
                state = states.get(openid)
                if state is None:
                    before = version - 1  # where its row should be, if that cannot be read
                    state = self._found(openid)
                before, _, registered_at_us, last_us, balance = state
                balance = apply(balance, version, decode_stored(type_name, data))
                wrong = (
                    version != before + 1
                    or balance.credit != credit
                    or recorded_at_us < last_us
                    or (version == 1) != (type_name == b"UserRegistered")
                    or len(head) != _HASH_BYTES
                )
            # Where pages were damaged, a column can be of any type.
            except (CorruptEvent, UnicodeDecodeError, TypeError, AttributeError) as error:
                self._blame(openid, before + 1, position, "data", str(error))
                continue
            if wrong:
                found = f"version {version!r} with credit {credit!r}, recorded at {recorded_at_us!r}"
                expected = f"version {before + 1} with credit {balance.credit}, not before {last_us}"
                self._blame(openid, before + 1, position, "impossible", f"{expected} expected, {found} found")
                continue
            states[openid] = (
                version,
                head,
                registered_at_us if before else recorded_at_us,
                recorded_at_us,
                balance,
            )

    def accounts(self) -> Iterator[tuple[bytes, Account]]:
        """Those without a fault."""
        for openid, state in self._states.items():
            if openid not in self.faults:
                yield openid, Account(openid.decode(), *state)

    def rows(self) -> dict[bytes, Row]:
        """The account rows that can be stored; where none can, that is the account's fault."""
        for openid, (version, _, _, _, balance) in self._states.items():
            if openid not in self.faults:
                broken = broken_invariant(balance)
                if broken is None and max(balance.credit, balance.held) > MAX_CREDIT:
                    broken = f"it has more than {MAX_CREDIT}"
                if broken is not None:
                    self._blame(openid, version, 0, "invariant", f"after it {broken}")
        return {openid: to_row(account) for openid, account in self.accounts()}

    def _found(self, openid: bytes) -> _State:
        account = self._find(openid)
        if account is None:
            openid.decode()
            return _NOBODY
        return (
            account.version,
            account.head,
            account.registered_at_us,
            account.recorded_at_us,
            account.balance,
        )

    def _blame(self, openid: bytes, version: int, position: int, what: str, detail: str) -> None:
        self.faults[openid] = Fault(text_of(openid), version, position, what, detail)
