"""Recording what lapsed: by `credit-ledger expire` and by the service itself. No answer depends on either."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api import service as serving
from api.service import Service as Serving
from api.settings import read_settings
from api.startup import prepare
from ledger.commands import GrantCredit, HoldCredit, RegisterUser, Submission
from ledger.committer import ledger_committer, microseconds_now
from ledger.errors import NotCommitted
from ledger.sqlite import connect
from ledger.statement import Reader
from ledger.verify import audit
from scripts.sandbox_wechat import APPID, SECRET
from tests.backend import DAY_US, Backend, happened
from tests.conftest import PATIENCE_S, ROOT, Service

LAPSED = ("oLot", "oHold", "oBoth")
LIVE = ("oForever", "oLater")


def fill(happen: Callable[..., Any]) -> None:
    """Five accounts, three of which have something lapsed that nobody recorded."""
    start = microseconds_now() - 10 * DAY_US
    soon, later = start + DAY_US, start + 100 * DAY_US
    happen(
        *(RegisterUser(openid, 100) for openid in (*LAPSED, *LIVE)),
        GrantCredit("oLot", 7, "r", "g", None, soon),
        HoldCredit("oHold", 30, "r", "h", None, soon),
        GrantCredit("oBoth", 7, "r", "g", None, soon),
        HoldCredit("oBoth", 5, "r", "h", None, soon + DAY_US),
        GrantCredit("oLater", 7, "r", "g", None, later),
        clock_us=lambda: start,
    )


def recorded(data: Path) -> dict[str, int]:
    """How many events each account has in the file."""
    connection = connect(data / "ledger.db", read_only=True)
    rows = connection.execute("SELECT openid, max(version) FROM event GROUP BY openid").fetchall()
    connection.close()
    return dict(rows)


def expire(data: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from scripts.credit_ledger import main; main()", "expire"],
        env={**os.environ, "CREDIT_DATA": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def answers(backend: Backend) -> dict[str, Any]:
    """All that the service says about all accounts, but for the moment of asking."""
    said: dict[str, Any] = {}
    for openid in (*LAPSED, *LIVE):
        said[openid] = {**backend.account(openid), "as_of": None}
        said[openid + " events"] = backend.events(openid, limit=2)
        said[openid + " expired"] = backend.events(openid, type="CreditExpired")
        dry = backend.post(f"{openid}/spends", {"amount": 100, "reason": "r"}, dry_run="true").json()
        dry["event"].pop("recorded_at")
        said[openid + " spend"] = dry
    return said


def test_expire_records_what_lapsed_says_how_much_and_changes_no_answer(
    new_service: Callable[..., Service],
) -> None:
    service = new_service()
    fill(lambda *commands, **options: happened(service, *commands, **options))
    backend = Backend(service)
    stored, before = recorded(service.data), answers(backend)
    etags = {openid: backend.get(openid).headers["ETag"] for openid in LAPSED}
    assert expire(service.data) == "3 accounts had something lapsed; it is recorded now\n"
    assert recorded(service.data) == {**stored, "oLot": 4, "oHold": 4, "oBoth": 6}
    assert answers(backend) == before
    assert {openid: backend.get(openid).headers["ETag"] for openid in LAPSED} == etags
    assert expire(service.data) == "0 accounts had something lapsed; it is recorded now\n"
    # What was read before is still a precondition that holds.
    answer = backend.post("oLot/spends", {"amount": 1, "reason": "r"}, headers={"If-Match": etags["oLot"]})
    assert answer.status_code == 201
    assert service.stop() == 0
    report = audit(service.data / "ledger.db")
    assert report.good, report.faults


def test_a_ledger_is_the_same_bytes_whether_or_not_it_was_swept(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    """The same hashes: what lapsed is recorded as of its moment, whoever records it and when."""
    service = new_service()
    fill(lambda *commands, **options: happened(service, *commands, **options))
    assert service.stop() == 0
    other = Path(shutil.copytree(service.data, tmp_path / "swept"))
    assert expire(other).startswith("3 ")
    now = microseconds_now()
    heads = []
    for data in (service.data, other):
        committer = ledger_committer(data / "ledger.db", clock_us=lambda: now)
        for openid in (*LAPSED, *LIVE):
            committer.commit([Submission(GrantCredit(openid, 1, "r", "last"), "key:x")])
        committer.close()
        reader = Reader(data / "ledger.db")
        accounts = [reader.account(openid, now) for openid in (*LAPSED, *LIVE)]
        heads.append([(account.head, account.version) for account in accounts if account is not None])
        reader.close()
    assert heads[0] == heads[1]
    assert len(heads[0]) == 5


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files of a service that has yet to start, with what has lapsed in them."""
    data = tmp_path / "data"
    prepare(read_settings(_environ(data)))

    def happen(*commands: Any, clock_us: Callable[[], int]) -> None:
        committer = ledger_committer(data / "ledger.db", clock_us=clock_us)
        committer.commit([Submission(command, "key:x") for command in commands])
        committer.close()

    fill(happen)
    return data


def _environ(data: Path) -> dict[str, str]:
    return {"CREDIT_DATA": str(data), "WECHAT_APPID": APPID, "WECHAT_SECRET": SECRET}


def running(data: Path, work: Callable[[Serving], Any]) -> Any:
    """What `work` comes to with a service that was started in this process, on the files in `data`."""

    async def run() -> Any:
        service = Serving(read_settings(_environ(data)))
        await service.process_startup({}, {})
        try:
            return await work(service)
        finally:
            await service.process_shutdown({}, {})

    return asyncio.run(run())


@pytest.mark.parametrize("at_once", [100, 1])
def test_the_service_sweeps_by_itself(
    files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], at_once: int
) -> None:
    monkeypatch.setattr(serving, "_FIRST_SWEEP_S", 0.05)
    monkeypatch.setattr(serving, "_SWEEP_INTERVAL_S", 0.05)
    monkeypatch.setattr(serving, "_SWEPT_AT_ONCE", at_once)
    monkeypatch.setattr("api.service.secrets.randbelow", lambda _: 0)
    swept = recorded(files) | {"oLot": 4, "oHold": 4, "oBoth": 6}
    found: list[int] = []
    sweep = Serving._sweep

    async def noted(service: Serving) -> int:
        found.append(await sweep(service))
        return found[-1]

    monkeypatch.setattr(Serving, "_sweep", noted)

    async def wait(service: Serving) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < 3:  # and over again, with nothing to do
                await asyncio.sleep(0.02)

    running(files, wait)
    assert found[:3] == [3, 0, 0]
    assert recorded(files) == swept
    assert audit(files / "ledger.db").good


def test_a_sweep_says_how_many_it_recorded_and_a_second_has_nothing_to_do(files: Path) -> None:
    async def twice(service: Serving) -> tuple[int, int]:
        return await service._sweep(), await service._sweep()

    assert running(files, twice) == (3, 0)


def test_a_sweep_that_fails_once_is_tried_again(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_FIRST_SWEEP_S", 0.01)
    monkeypatch.setattr(serving, "_SWEEP_INTERVAL_S", 0.01)
    monkeypatch.setattr("api.service.secrets.randbelow", lambda _: 0)
    faults = [NotCommitted("busy"), NotCommitted("busy")]
    sweep = Serving._sweep

    async def flaky(service: Serving) -> int:
        if faults:
            raise faults.pop()
        return await sweep(service)

    monkeypatch.setattr(Serving, "_sweep", flaky)
    before = recorded(files)

    async def wait(service: Serving) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while recorded(files) == before:
                await asyncio.sleep(0.02)

    running(files, wait)
    assert not faults


def test_one_account_that_cannot_be_swept_keeps_no_other_from_it(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the sweep comes to an end all the same."""
    import ledger.committer as committing

    execute = committing.execute

    def broken(store: Any, submission: Submission, now_us: int) -> Any:
        if submission.command.openid == "oHold":
            raise ZeroDivisionError
        return execute(store, submission, now_us)

    monkeypatch.setattr(committing, "execute", broken)
    before = recorded(files)

    async def once(service: Serving) -> int:
        return await service._sweep()

    assert running(files, once) == 2
    assert recorded(files) == {**before, "oLot": 4, "oBoth": 6}
