"""The least that work on a whole ledger takes: as a program, `python -m bench.whole_floor WHICH DATA`.

    scan    reads every event in the order of the table
    fold    decodes each, adds its amount to its account's credit, and compares: no replay can do without
    chain   does that, and hashes each with the hash before it: no audit can do without
    seal    finds what changed since the last seal, and writes the parts of its tree that it is in as they are

`fold` and `chain` take all cores that they may have, as replay and audit do. They know the log that the
benchmark makes, of registrations, grants and spends without lots, and nothing of what may be wrong with one.
"""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from bench.limits import rewrite_parts, scan
from bench.machine import Failed
from ledger.account import GENESIS
from ledger.beside import FoldScan
from ledger.chain import chained
from ledger.log import BEFORE_ALL, LogScan, Range
from ledger.parallel import Tick, cores, over_ranges, without_collection
from ledger.seal_file import SealFile
from ledger.sealed_leaf import part_of
from ledger.sums import account_key


class _Amount(msgspec.Struct):
    amount: int = 0


_amount: Final = msgspec.json.Decoder(_Amount)
_SPENT: Final = b"CreditSpent"


def fold(path: Path, within: Range, tick: Tick) -> int:
    """How many events the accounts in that range have; Failed where an amount is not what its credit says."""
    credits: dict[bytes, int] = {}
    events, after = 0, BEFORE_ALL
    with FoldScan(path) as log, without_collection():
        while facts := log.facts(after, within):
            after = facts[-1][0]
            for position, openid, _, type_name, data, credit, _, _ in facts:
                amount = _amount.decode(data).amount
                now = credits.get(openid, 0) + (-amount if type_name == _SPENT else amount)
                if now != credit:
                    raise Failed(f"event {position} comes to {now}, its credit is {credit}")
                credits[openid] = now
            events += len(facts)
            tick(len(facts))
    return events


def chain(path: Path, within: Range, tick: Tick) -> int:
    """As `fold`; Failed also where the hash of an event is not that of its columns."""
    accounts: dict[bytes, tuple[bytes, bytes, int]] = {}
    events, after = 0, BEFORE_ALL
    with LogScan(path) as log, without_collection():
        while rows := log.event_rows(after, within):
            after = rows[-1][0]
            for position, openid, version, type_name, data, credit, key, fingerprint, at_us, digest in rows:
                account, head, before = accounts.get(openid) or (account_key(openid), GENESIS, 0)
                amount = _amount.decode(data).amount
                now = before - amount if type_name == _SPENT else before + amount
                found = chained(head, account, version, type_name, data, credit, key, fingerprint, at_us)
                if now != credit or found != digest:
                    raise Failed(f"event {position} is not what it should be")
                accounts[openid] = account, digest, now
            events += len(rows)
            tick(len(rows))
    return events


def over_all_cores(reading: str, path: Path) -> int:
    """`fold` or `chain` of all accounts, in a range for each core, each with a process of its own."""
    with LogScan(path) as log:
        ranges, events = log.ranges(cores()), log.last_position()
    return sum(over_ranges(partial({"fold": fold, "chain": chain}[reading], path), ranges, events))


def seal(data: Path) -> int:
    """How many parts of the tree of the last seal were written; each of them is as it was."""
    with closing(SealFile(data / "seals.db")) as seals:
        last = seals.last()
    with LogScan(data / "ledger.db") as log:
        changed = log.changed(account_key, 0 if last is None else last.position)
        parts = dict.fromkeys(part_of(key) for key, *_ in changed)
    return rewrite_parts(data / "seals.db", parts)


def main(which: str, data: Path) -> str:
    """What was done, in two words."""
    if which == "seal":
        return f"{seal(data)} parts"
    log = data / "ledger.db"
    return f"{scan(log) if which == 'scan' else over_all_cores(which, log)} events"


if __name__ == "__main__":
    print(main(sys.argv[1], Path(sys.argv[2])))
