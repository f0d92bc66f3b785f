"""Many processes on one ledger: each fact once, whoever races and whoever is killed."""

import random
import time
from collections import Counter
from pathlib import Path

from ledger.commands import RegisterUser
from ledger.statement import Reader, Standing
from tests.ledger_processes import Program, at_once
from tests.ledger_samples import SINCE_US, account_of, assert_sound, committed, log_of

KILLS = 12


def test_32_first_registrations_of_one_person_at_once_make_one_registration_and_one_grant(
    ledger_path: Path,
) -> None:
    answers = at_once(*[("register", ledger_path, "oAnna", 8)] * 4)
    outcomes = [tuple(outcome) for answer in answers for outcome in answer]  # type: ignore[attr-defined]
    assert Counter(outcomes) == {(False, 100): 1, (True, 100): 31}
    assert [(row.openid, row.type) for row in log_of(ledger_path)] == [
        (b"oAnna", b"UserRegistered"),
        (b"oAnna", b"CreditGranted"),
    ]
    assert_sound(ledger_path)


def test_4_processes_that_grant_with_the_same_keys_land_each_key_once(ledger_path: Path) -> None:
    """And all of them are told the same version of a key, whoever wrote it."""
    openids, keys = ["oAnna", "oBo", "oCi"], 40
    committed(ledger_path, *(RegisterUser(openid, 0) for openid in openids))
    answers = at_once(*(("grant", ledger_path, seed, ",".join(openids), keys) for seed in range(4)))
    told = [tuple(each) for answer in answers for each in answer]  # type: ignore[attr-defined]
    recorded = {(row.openid.decode(), row.key.decode(), row.version) for row in log_of(ledger_path) if row.key}
    assert len(recorded) == len(openids) * keys
    assert {(openid, key, version) for openid, key, version, _ in told} == recorded
    assert {(openid, key, version) for openid, key, version, new in told if new} == recorded
    assert sum(new for *_, new in told) == len(recorded)
    reader = Reader(ledger_path)
    assert [reader.standing(openid, SINCE_US) for openid in openids] == [Standing(keys + 1, keys)] * 3
    reader.close()
    assert_sound(ledger_path)


def test_20_parallel_spends_of_10_on_100_credits_over_4_processes_spend_each_credit_once(
    ledger_path: Path,
) -> None:
    committed(ledger_path, RegisterUser("oAnna", 100))
    keys = [f"k{number}" for number in range(20)]
    answers = at_once(*(("spend", ledger_path, "oAnna", 10, *keys[first::4]) for first in range(4)))
    told = [outcome for answer in answers for outcome in answer]  # type: ignore[attr-defined]
    figures = {"available": 0, "held": 0, "asked": 10, "expiring": 0}
    assert [each for each in told if each[0] is not False] == [["insufficient-credit", figures]] * 10
    assert sorted(credit for new, credit in told if new is False) == list(range(0, 100, 10))
    account = account_of(ledger_path, "oAnna")
    assert (account.version, account.balance.credit, account.balance.spent) == (12, 0, 100)
    assert_sound(ledger_path)


def test_20_parallel_check_ins_over_4_processes_earn_once(ledger_path: Path) -> None:
    """Twenty taps, each with a key of its own: the day is what makes it once."""
    committed(ledger_path, RegisterUser("oAnna", 0))
    keys = [f"k{number}" for number in range(20)]
    answers = at_once(*(("check-in", ledger_path, "oAnna", *keys[first::4]) for first in range(4)))
    told = [outcome for answer in answers for outcome in answer]  # type: ignore[attr-defined]
    assert Counter(each[0] for each in told) == {False: 1, "already-checked-in": 19}
    assert [row.type for row in log_of(ledger_path)] == [b"UserRegistered", b"CheckedIn", b"CreditGranted"]
    assert account_of(ledger_path, "oAnna").balance.credit == 7
    assert_sound(ledger_path)


def acknowledged(answers: list[object]) -> set[str]:
    return {key for keys in answers for key in keys}  # type: ignore[attr-defined]


def test_kill_9_of_a_writer_loses_no_acknowledged_grant_and_does_not_stop_the_others(ledger_path: Path) -> None:
    """The dead process's turn at the turnstile ends with it, in the middle of a transaction too."""
    committed(ledger_path, RegisterUser("oAnna", 0), RegisterUser("oBo", 0))
    chance = random.Random(9)
    promised: set[str] = set()
    with Program("grant-until-told", ledger_path, "oBo", "survivor") as survivor:
        assert survivor.read() == "ready"
        survivor.go()
        for life in range(KILLS):
            # Both write to oAnna's account and to oBo's, so that a lost head would be seen as a fork.
            with Program("grant-until-told", ledger_path, ["oAnna", "oBo"][life % 2], f"life{life}") as victim:
                assert victim.read() == "ready"
                victim.go()
                promised |= acknowledged([victim.read() for _ in range(chance.randint(1, 20))])
                time.sleep(chance.uniform(0, 0.004))
                promised |= acknowledged(victim.kill())
            promised |= acknowledged(survivor.drain())
            promised |= acknowledged([survivor.read() for _ in range(3)])
        promised |= acknowledged(survivor.kill())
    keys = Counter(row.key.decode() for row in log_of(ledger_path) if row.key)
    assert promised
    assert promised <= keys.keys()
    assert set(keys.values()) == {1}
    assert_sound(ledger_path)


def test_a_ledger_whose_only_writer_was_killed_is_opened_by_the_next_one(ledger_path: Path) -> None:
    """Nobody else had it open, so the next one recovers the write-ahead log that the dead one left."""
    committed(ledger_path, RegisterUser("oAnna", 0))
    promised: set[str] = set()
    for life in range(4):
        with Program("grant-until-told", ledger_path, "oAnna", f"life{life}") as victim:
            assert victim.read() == "ready"
            victim.go()
            promised |= acknowledged([victim.read() for _ in range(5)])
            promised |= acknowledged(victim.kill())
    keys = Counter(row.key.decode() for row in log_of(ledger_path) if row.key)
    assert promised <= keys.keys()
    assert set(keys.values()) == {1}
    assert_sound(ledger_path)
