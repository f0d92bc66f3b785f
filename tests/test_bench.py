"""scripts/bench measures a real service and writes its table, and nothing else, into the README.

No figure is held against its target here: that is what scripts/bench itself is for.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from scripts.bench_table import BEGIN, END
from tests.conftest import ROOT, Service

_ROW = re.compile(r"\| .+ \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|")
_TARGET = re.compile(r"\| .+ \| [≥≤] ([\d.]+) \| (-?[\d.]+) \| (-?[\d.]+)–(-?[\d.]+) \| .+ \|")
_BEFORE = "# Credit Ledger 积分\r\n\n  text with <!-- another comment -->\n"
_AFTER = "\n\n## After\tit\nno newline at the end"


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed: apt-get install wrk")
def test_bench_writes_its_table_between_the_markers_and_leaves_no_process(tmp_path: Path) -> None:
    files = [tmp_path / "README.md", tmp_path / "README.zh-CN.md"]
    for file in files:
        file.write_bytes(f"{_BEFORE}{BEGIN}\nold\n{END}{_AFTER}".encode())
    options = ["--quick", "--rounds", "1", "--seconds", "1", "--write", "--readmes", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", "scripts.bench_run", *options],
        cwd=ROOT,
        env={**os.environ, "STARTED_BY": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    # A target missed on a busy machine ends with 1 as well, but only after everything was checked and written.
    assert run.returncode == 0 or (run.returncode == 1 and run.stderr.startswith("Missed: ")), run.stderr

    tables = []
    for file in files:
        whole = file.read_bytes().decode()
        assert whole.startswith(f"{_BEFORE}{BEGIN}\n")
        assert whole.endswith(f"{END}{_AFTER}")
        tables.append(whole[len(_BEFORE) + len(BEGIN) + 1 : -len(END + _AFTER)])
    assert tables[0] == run.stdout
    figures = [[row.groups() for row in _ROW.finditer(table)] for table in tables]
    assert figures[0] == figures[1]
    assert len(figures[0]) == 7
    assert all(float(number.replace(",", "")) > 0 for row in figures[0] for number in row)
    bounds = [[row.groups() for row in _TARGET.finditer(table)] for table in tables]
    assert bounds[0] == bounds[1]
    assert [float(row[0]) for row in bounds[0]] == [0.6, 0.4, 4, 1.5, 5, 10_000, 10, 80]
    assert "Measured by `scripts/bench`" in tables[0]
    assert "请求/秒" in tables[1]

    assert not [pid for pid in Path("/proc").glob("[0-9]*") if _was_started_by(pid, tmp_path)]


def _was_started_by(process: Path, mark: Path) -> bool:
    try:
        return f"STARTED_BY={mark}\0".encode() in (process / "environ").read_bytes()
    except OSError:
        return False  # it has ended, or is another user's


def test_bench_says_which_file_has_no_markers(tmp_path: Path) -> None:
    """Before it measures, not after two minutes."""
    run = subprocess.run(
        [sys.executable, "-m", "scripts.bench_run", "--write", "--readmes", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert run.returncode == 1
    assert f"{tmp_path}/README.md" in run.stderr


def test_the_routes_of_the_benchmark_are_in_no_other_app(
    new_service: Callable[..., Service], service: Service
) -> None:
    measured = new_service(app="scripts.bench_app:from_environment()")
    grant = {"amount": 7, "reason": "benchmark"}
    assert requests.post(f"{measured.url}/bench/hello", json=grant, timeout=5).json() == {"hello": "world"}
    assert requests.get(f"{measured.url}/bench/hello", timeout=5).json() == {"hello": "world"}
    assert requests.post(f"{measured.url}/bench/hello", json={"amount": 7}, timeout=5).status_code == 422

    assert requests.post(f"{service.url}/bench/hello", json=grant, timeout=5).status_code == 404
