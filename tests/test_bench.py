"""The benchmark, run small: it starts every contender, measures all there is, and records what it found.

No figure is held against its target here: that is what scripts/bench itself is for.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import msgspec
import pytest
import requests
from click.testing import CliRunner

from api.vault import open_signer
from bench import run, whole_floor
from bench.contender import CONTENDERS
from bench.figures import Results
from bench.machine import Failed
from bench.measure import Stage, Turn
from bench.people import commit_all, make_grown, users_of
from bench.plan import FULL, QUICK, Plan
from bench.plots import drawings
from bench.product import PRODUCT, Product
from bench.report import BEGIN, END
from bench.server import Load
from bench.targets import targets
from ledger.commands import GrantCredit
from ledger.seal import origin_of
from ledger.sealer import make_seal
from ledger.sqlite import connect
from scripts.sandbox_wechat import APPID
from tests.backend import new_key
from tests.conftest import PATIENCE_S, ROOT, Service

SMALL = Plan(
    head=(1, 0.2),
    other=(1, 0.4),
    sweep=(1, 0.1),
    library=(1, 0.05),
    growth=(1, 0.2),
    latency=(1, 0.5),
    warm_s=0,
    people=50,
    long_events=200,
    connections=(1,),
    batches=(1, 50),
    sizes=(1_000,),
    bulk_lines=100,
    starts=1,
)
_BEFORE = "# Credit Ledger 积分\r\n\n  text with <!-- another comment -->\n"
_AFTER = "\n\n## After\tit\nno newline at the end"

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")


@needs_wrk
@needs_node
def test_one_run_measures_every_contender_at_all_it_can_do_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout, scratch = tmp_path / "checkout", tmp_path / "scratch"
    checkout.mkdir()
    scratch.mkdir()
    for file in ("README.md", "README.zh-CN.md"):
        (checkout / file).write_bytes(f"{_BEFORE}{BEGIN}\nold\n{END}{_AFTER}".encode())
    monkeypatch.setenv("STARTED_BY", str(tmp_path))

    missed = run.run(SMALL, "small", checkout, scratch)

    place = checkout / "docs" / "bench"
    written = (place / "results.json").read_bytes()
    results = msgspec.json.decode(written, type=Results)
    assert results.left_out == {}
    assert results.failures == []
    measured = {(each.work, each.contender) for each in results.figures}
    for contender in CONTENDERS:
        assert {(work, contender.name) for work in contender.works} <= measured
    assert ("library-grant", "eventsourcing") in measured
    assert not [each for each in results.figures if not each.values or min(each.values) < 0]

    verdicts = {target["title"]: target["verdict"] for target in msgspec.json.decode(written)["targets"]}
    assert missed == [title for title, verdict in verdicts.items() if verdict == "missed"]
    # A growth needs two sizes, and this run has one.
    assert [title for title, verdict in verdicts.items() if verdict == "not measured"] == [
        target.title
        for target in targets(results)
        if target.title.startswith("cost of a") and not target.values
    ]
    assert capsys.readouterr().out == (place / "results.md").read_text()

    names = {path.stem for path in place.glob("*.svg")}
    assert (
        names
        == set(drawings(results))
        == set(re.findall(r"\((\w+)\.svg\)", (place / "results.md").read_text()))
    )
    for name in names:
        assert ElementTree.parse(place / f"{name}.svg").getroot().tag.endswith("svg")
    for file in ("README.md", "README.zh-CN.md"):
        whole = (checkout / file).read_bytes().decode()
        assert whole.startswith(f"{_BEFORE}{BEGIN}\n| ")
        assert whole.endswith(f"{END}{_AFTER}")

    assert list(scratch.iterdir()) == []
    assert not [pid for pid in Path("/proc").glob("[0-9]*") if _was_started_by(pid, tmp_path)]


def _was_started_by(process: Path, mark: Path) -> bool:
    try:
        return f"STARTED_BY={mark}\0".encode() in (process / "environ").read_bytes()
    except OSError:
        return False  # it has ended, or is another user's


def test_the_options_say_what_is_run_and_a_missed_target_is_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Plan, str, Path | None, Path]] = []
    missed: list[str] = []
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process goes on with its own
    monkeypatch.setattr(run, "run", lambda *options: asked.append(options) or missed)
    call = CliRunner().invoke
    assert call(run.main, []).exit_code == 0
    assert asked.pop() == (FULL, "full", None, Path("/var/tmp"))
    assert call(run.main, ["--write", "--quick", "--scratch", "/disk"]).exit_code == 0
    assert asked.pop() == (QUICK, "quick", ROOT, Path("/disk"))
    assert call(run.main, ["--events", "10000000", "--soak", "60", "--write=/there"]).exit_code == 0
    plan, _, checkout, _ = asked.pop()
    assert plan.sizes == (1_000, 100_000, 1_000_000, 10_000_000)
    assert plan.soak_s == 60
    assert checkout == Path("/there")
    missed.append("memory")
    failed = call(run.main, ["--quick"])
    assert failed.exit_code == 1
    assert "Missed: memory" in failed.output


def loads(*per_second: float) -> Callable[[float, int], Load]:
    """A turn that finds these rates in turn, and fails where one is 0."""
    left = list(per_second)

    def turn(seconds: float, connections: int) -> Load:
        rate = left.pop(0)
        if not rate:
            raise Failed("500")
        return Load(int(rate), 1_000_000, 1_000, 2_000, 0, 0, 0, {})

    return turn


def test_a_contender_that_fails_loses_that_figure_and_the_rest_goes_on() -> None:
    results = Results({})
    stage = Stage(cast(Product, None), [], "", results)
    turns = [Turn("grant", PRODUCT, loads(10, 20, 30)), Turn("grant", "fastapi", loads(5, 0))]
    stage.measure(turns, rounds=3, seconds=1, connections=64)
    stage.measure([Turn("credit", "fastapi", loads(7))], rounds=1, seconds=1, connections=64)
    assert results.failures == ["fastapi: 500"]
    values = {(each.work, each.contender): each.values for each in results.figures}
    assert values == {("grant", PRODUCT): [10, 20, 30], ("grant", "fastapi"): [5], ("credit", "fastapi"): [7]}


def test_the_service_itself_must_not_fail() -> None:
    stage = Stage(cast(Product, None), [], "", Results({}))
    with pytest.raises(Failed):
        stage.measure([Turn("grant", PRODUCT, loads(0))], rounds=1, seconds=1, connections=64)


def test_every_second_round_goes_backwards() -> None:
    went: list[str] = []

    def going(name: str) -> Turn:
        def turn(seconds: float, connections: int) -> Load:
            went.append(name)
            return loads(1)(seconds, connections)

        return Turn(name, PRODUCT, turn)

    Stage(cast(Product, None), [], "", Results({})).measure([going("a"), going("b")], 3, 1, 64)
    assert went == ["a", "b", "b", "a", "a", "b"]


def test_bench_says_which_file_has_no_markers(tmp_path: Path) -> None:
    """Before it measures, not after ten minutes."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bench.run", f"--write={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert f"{tmp_path}/README.md" in done.stderr


def test_the_routes_of_the_benchmark_are_in_no_other_app(
    new_service: Callable[..., Service], service: Service
) -> None:
    measured = new_service(app="bench.app:from_environment()")
    grant = {"amount": 7, "reason": "benchmark"}
    assert requests.post(f"{measured.url}/bench/hello", json=grant, timeout=PATIENCE_S).json() == {
        "hello": "world"
    }
    assert requests.get(f"{measured.url}/bench/hello", timeout=PATIENCE_S).json() == {"hello": "world"}
    assert (
        requests.post(f"{measured.url}/bench/hello", json={"amount": 7}, timeout=PATIENCE_S).status_code == 422
    )

    token = measured.login("alice")
    looked_up = requests.get(f"{measured.url}/bench/lookups", {"token": token}, timeout=PATIENCE_S)
    assert looked_up.json() == measured.credit(token) == {"credit": 100}
    assert requests.post(f"{measured.url}/bench/rows", json=grant, timeout=PATIENCE_S).status_code == 401
    headers = {"Authorization": f"Bearer {new_key(measured, 'grant')}", "Idempotency-Key": "k1"}
    assert (
        requests.post(f"{measured.url}/bench/rows", json=grant, headers=headers, timeout=PATIENCE_S).status_code
        == 201
    )
    with closing(connect(measured.data / "bench.db", read_only=True)) as rows:
        assert rows.execute("SELECT type, credit, key FROM event").fetchall() == [("CreditGranted", 7, "k1")]
        assert rows.execute("SELECT credit, granted FROM account").fetchall() == [(7, 7)]

    lines = b"".join(
        b'{"openid":"oAnna","key":"line%d","amount":1,"reason":"gift"}\n' % number for number in range(1300)
    )
    assert requests.post(f"{measured.url}/bench/lines", lines, timeout=PATIENCE_S).status_code == 401
    answer = requests.post(f"{measured.url}/bench/lines", lines, headers=headers, timeout=PATIENCE_S)
    assert answer.content.count(b'"status":201') == len(answer.content.splitlines()) == 1300
    with closing(connect(measured.data / "bench.db", read_only=True)) as rows:
        assert rows.execute("SELECT count(*), count(DISTINCT key) FROM event").fetchone() == (1301, 1301)

    assert requests.post(f"{service.url}/bench/hello", json=grant, timeout=PATIENCE_S).status_code == 404


def test_the_least_that_reading_a_ledger_takes_reads_all_of_it_and_believes_nothing(tmp_path: Path) -> None:
    """A floor that skipped what it is the floor of would be none."""
    make_grown(1000, tmp_path, lambda _: None)
    (data,) = tmp_path.iterdir()
    commit_all(data / "ledger.db", [GrantCredit(openid, 1, "x", "more") for _, openid in users_of(30)])
    assert [whole_floor.main(which, data) for which in ("scan", "fold", "chain")] == ["1030 events"] * 3
    assert whole_floor.main("seal", data) == "30 parts"
    # Which does not believe what it finds there unchecked.
    make_seal(data / "ledger.db", data / "seals.db", open_signer(data / "signing.key", origin_of(APPID)), 2**50)

    with closing(connect(data / "ledger.db")) as ledger:
        ledger.execute("DROP TRIGGER event_is_never_updated")
        ledger.execute("UPDATE event SET recorded_at = recorded_at + 1 WHERE position = 700")
        with pytest.raises(Failed, match="event 700 is not"):
            whole_floor.main("chain", data)
        assert whole_floor.main("fold", data) == "1030 events"
        ledger.execute("UPDATE event SET credit = credit + 1 WHERE position = 600")
    with pytest.raises(Failed, match="event 600 comes to"):
        whole_floor.main("fold", data)
