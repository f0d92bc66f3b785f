"""The audit's report: a page that stands alone, and figures that agree with the log."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from ledger.account import day_of
from ledger.fault import Fault
from ledger.range_audit import Day
from ledger.schema import create
from ledger.verify import Report, audit
from scripts.audit_chart import chart, points_of
from scripts.audit_page import page
from tests.ledger_samples import APPID, SINCE_US, account_of, committed, ticking, vandal, whole_life
from tests.test_audit_seals import note_of, receipt_line, sealed

COMMAND = [sys.executable, "-c", "from scripts.credit_ledger import main; main()", "audit"]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.db"
    create(path, APPID)
    committed(path, *whole_life(), clock_us=ticking())
    committed(path, *whole_life("oBo"), clock_us=ticking())
    sealed(path, 10**7)
    return path


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "CREDIT_DATA": str(path.parent), "PYTHONPATH": os.getcwd()}
    return subprocess.run([*COMMAND, *arguments], env=environ, capture_output=True, text=True, timeout=60)


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the one that is open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_days_are_what_the_accounts_come_to(ledger: Path) -> None:
    days = audit(ledger).days
    balances = [account_of(ledger, openid).balance for openid in ("oAnna", "oBo")]
    total = Day()
    for day in days.values():
        total.add(day)
    assert total == Day(
        sum(one.granted for one in balances),
        sum(one.spent for one in balances),
        sum(one.expired for one in balances),
        sum(one.revoked for one in balances),
        sum(one.credit for one in balances),
        sum(one.held for one in balances),
    )
    assert list(days) == [day_of(SINCE_US)]


@pytest.mark.parametrize("count", [1, 2, 119, 120, 121, 1000, 3650])
def test_a_chart_has_few_points_and_ends_with_the_last_day(count: int) -> None:
    days = {20_000 + number: Day(issued=2, spent=1, outstanding=1) for number in range(count)}
    points = points_of(days)
    assert 1 <= len(points) <= 121
    assert (points[-1].issued, points[-1].spent, points[-1].outstanding) == (2 * count, count, count)
    assert points[0].day >= "2024-10-04"
    assert chart(points).count("<polyline") == 5


def test_labels_do_not_cover_each_other() -> None:
    points = points_of({20_000: Day(), 20_001: Day()})
    heights = [float(y) for y in re.findall(r'class="label \w+" x="[\d.]+" y="([\d.]+)"', chart(points))]
    assert len(heights) == 5
    heights.sort()
    assert all(later - former >= 20 for former, later in pairwise(heights))
    assert heights[0] > 0


def test_the_page_stands_alone_and_whatever_is_in_the_log_is_only_text(ledger: Path) -> None:
    evil = '<script>alert("1")</script>&'
    report = Report(1, 1, 1, [Fault(evil, 3, 4, evil, evil)], {20_000: Day(issued=1)}, None, [evil])
    for text in (page(report, evil, SINCE_US), page(audit(ledger, seals=ledger.with_name("seals.db")), "l", 0)):
        assert "<script" not in text
        assert not re.search(r"""(?:src|href)=|url\(|@import""", text)
        checker = Balanced()
        checker.feed(text.removeprefix("<!DOCTYPE html>"))
        assert checker.open == []
        assert "prefers-color-scheme: dark" in text
        assert "@media print" in text


def test_the_page_says_the_verdict_the_seal_and_each_fault(ledger: Path) -> None:
    target = ledger.with_name("audit.html")
    assert run(ledger, "--page", str(target)).returncode == 0
    text = target.read_text(encoding="utf-8")
    assert "Nothing is wrong with the 44 events of 2 accounts" in text
    assert note_of(ledger, 1).splitlines()[2] in text
    with vandal(ledger) as connection:
        connection.execute("UPDATE account SET streak = 7 WHERE openid = 'oBo'")
    assert run(ledger, "--page", str(target)).returncode == 1
    text = target.read_text(encoding="utf-8")
    assert "1 thing is wrong" in text
    assert "streak is 7" in text


def test_what_was_found_is_said_also_where_the_page_cannot_be_written(ledger: Path) -> None:
    done = run(ledger, "--page", str(ledger.with_name("nowhere") / "audit.html"))
    assert done.returncode == 1
    assert "44 events, 2 accounts" in done.stdout
    assert "cannot write" in done.stderr


def test_a_receipt_may_have_any_character_that_json_may(ledger: Path) -> None:
    """An answer has the caller's reason beside its receipt: what divides lines elsewhere divides none there."""
    receipts = ledger.with_name("receipts.ndjson")
    odd = "\u2028\u2029\x85\x7f"
    receipts.write_text(
        f'{{"reason":"{odd}","receipt":{receipt_line(ledger, "oBo", 5)}}}\r\n', encoding="utf-8"
    )
    done = run(ledger, "--receipts", str(receipts))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_auditor_kept_is_compared(ledger: Path) -> None:
    note, receipts = ledger.with_name("note.txt"), ledger.with_name("receipts.ndjson")
    note.write_text(note_of(ledger, 1), encoding="utf-8")
    receipts.write_text(receipt_line(ledger, "oBo", 5) + "\n", encoding="utf-8")
    done = run(ledger, "--note", str(note), "--receipts", str(receipts), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert (report["seals"]["count"], report["seals"]["checked"]) == (1, 1)
    receipts.write_text(
        receipts.read_text(encoding="utf-8").replace('"credit":', '"credit":1'), encoding="utf-8"
    )
    done = run(ledger, "--receipts", str(receipts))
    assert done.returncode == 1
    assert "receipt: line 1 is no receipt of this ledger" in done.stdout


def test_a_quick_audit_says_what_it_did_not_look_at(ledger: Path) -> None:
    committed(ledger, *whole_life("oCi", SINCE_US + 10**8), clock_us=ticking(SINCE_US + 10**8))
    done = run(ledger, "--since", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Only the 1 accounts with events behind seal 1 were looked at" in done.stdout
    assert "Not looked at: all other accounts" in done.stdout
    with vandal(ledger) as connection:
        connection.execute("UPDATE event SET credit = 7 WHERE openid = 'oCi' AND version = 2")
        connection.execute("UPDATE account SET streak = 7 WHERE openid = 'oBo'")
    done = run(ledger, "--since", "1")
    assert re.findall(r"WRONG  (\w+) version (\d+).*: changed", done.stdout) == [("oCi", "2")]
    assert "oBo" not in done.stdout
    assert run(ledger, "--since", "2").returncode == 1
    assert "no sound seal 2" in run(ledger, "--since", "2").stderr
