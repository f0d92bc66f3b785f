"""What reading a whole ledger costs: audit, replay, seals, and the least of each to hold it against.

The commands run as an operator runs them, in processes of their own, and count from their start to their end.
"""

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from bench.figures import FLOOR, LIMIT, Results
from bench.machine import Failed, Run, credit_ledger, run_to_end, started
from bench.people import commit_all, users_of
from bench.product import PRODUCT
from ledger.commands import GrantCredit, Submission
from ledger.committer import ledger_committer

CHANGED: Final = 10_000
# What a busy service has in a commit.
_BATCH: Final = 64


def read_whole(data: Path, events: int, results: Results) -> None:
    """One round over a ledger of so many events that nobody writes: each reading after the other."""
    says = f"{events} events"
    readings = {
        ("scan", LIMIT): _least("scan", data, says, one_core=True),
        ("replay-one-core", FLOOR): _least("fold", data, says, one_core=True),
        ("replay-one-core", PRODUCT): credit_ledger(data, says, "replay", one_core=True),
        ("replay", FLOOR): _least("fold", data, says),
        ("replay", PRODUCT): credit_ledger(data, says, "replay"),
        ("audit", FLOOR): _least("chain", data, says),
        ("audit", PRODUCT): credit_ledger(data, "good", "audit"),
    }
    for (work, who), run in readings.items():
        results.into(work, who, events, "/s").values.append(events / run.seconds)
        if who == PRODUCT:
            results.into(f"{work}-memory", who, events, "MiB").values.append(run.mib)


def seal_changed(data: Path, accounts: int, number: int, results: Results) -> None:
    """Seal after one grant to each of CHANGED accounts, or of all where there are fewer."""
    chosen = random.Random(number).sample(users_of(accounts), min(CHANGED, accounts))  # noqa: S311 - no secret
    grants = [GrantCredit(openid, 1, "campaign", f"change{number}") for _, openid in chosen]
    commit_all(data / "ledger.db", list(grants))
    floor = _least("seal", data, "parts")
    results.into("seal", FLOOR, len(chosen), "s").values.append(floor.seconds)
    run = credit_ledger(data, "seal ", "seal")
    results.into("seal", PRODUCT, len(chosen), "s").values.append(run.seconds)
    results.into("seal-memory", PRODUCT, len(chosen), "MiB").values.append(run.mib)


def _least(which: str, data: Path, says: str, *, one_core: bool = False) -> Run:
    command = [sys.executable, "-P", "-m", "bench.whole_floor", which, str(data)]
    return run_to_end(command, says, one_core=one_core)


def append_beside_sealer(data: Path, accounts: int, number: int, seconds: float, results: Results) -> None:
    """Grants a second in batches as a busy service makes them: alone, then with a seal being made."""
    openids = [openid for _, openid in users_of(accounts)]
    path = data / "ledger.db"
    alone = _append(path, openids, f"alone{number}", seconds)
    with sealing(data):
        beside = _append(path, openids, f"beside{number}", seconds)
    results.into("append", PRODUCT, _BATCH, "/s").values.append(alone)
    results.into("append-beside-seal", PRODUCT, _BATCH, "/s").values.append(beside)


@contextmanager
def sealing(data: Path) -> Iterator[None]:
    """One seal, begun with the block, in the background as the service does it."""
    command = [sys.executable, "-P", "-m", "scripts.credit_ledger", "seal", "--background"]
    with started(command, {"CREDIT_DATA": str(data)}, stdout=subprocess.DEVNULL) as sealer:
        yield
        if sealer.wait(120):
            raise Failed("a seal failed beside the appends")


def _append(path: Path, openids: list[str], name: str, seconds: float) -> float:
    chance, done, begun = random.Random(name), 0, time.perf_counter()  # noqa: S311 - no secret
    with closing(ledger_committer(path)) as ledger:
        while (elapsed := time.perf_counter() - begun) < seconds:
            grants = [
                GrantCredit(chance.choice(openids), 1, "campaign", f"{name}-{done + n}") for n in range(_BATCH)
            ]
            ledger.commit([Submission(grant, "key:benchmark") for grant in grants])
            done += _BATCH
    return done / elapsed
