"""`scripts/serve`, as a newcomer runs it: banner, curl lines, Ctrl-C, from any directory."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.conftest import PATIENCE_S, ROOT, free_port

# The environment of the tests themselves may be another one; serve makes and uses its own.
pytestmark = pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="run scripts/test: it makes .venv")


class Serve:
    def __init__(self, where: Path, **environ: str) -> None:
        self.port = free_port()
        self.out = where / "serve.out"
        self.environ = {key: value for key, value in os.environ.items() if not key.startswith("WECHAT_")}
        self.environ |= {"CREDIT_BIND": f"127.0.0.1:{self.port}", "CREDIT_DATA": "my-data", **environ}
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [ROOT / "scripts" / "serve"],
                cwd=where,
                env=self.environ,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.out.read_text()

    def wait(self) -> None:
        deadline = time.monotonic() + 30
        while self.said.count("ASGI server listening") < 2:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def processes(self) -> list[str]:
        """Everything of this start that is alive, the sandbox in its own session included."""
        found = subprocess.run(
            ["pgrep", "-f", f"{ROOT}/.venv/bin/python.*scripts"], capture_output=True, text=True
        )
        return [pid for pid in found.stdout.split() if f"CREDIT_BIND=127.0.0.1:{self.port}" in _environ(pid)]

    def end(self) -> None:
        for pid in self.processes():
            os.kill(int(pid), signal.SIGKILL)
        self.process.kill()
        self.process.wait()


def _environ(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    running = Serve(tmp_path, CREDIT_WORKERS="2")
    yield running
    running.end()


def test_the_banner_says_it_is_the_sandbox_and_its_curl_lines_work(serve: Serve, tmp_path: Path) -> None:
    serve.wait()
    assert "SANDBOX" in serve.said
    lines = [line.strip() for line in serve.said.splitlines() if "curl" in line]
    assert len(lines) == 3
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert '{"credit":100}' in done.stdout
    assert '"type":"UserRegistered"' in done.stdout
    assert (tmp_path / "my-data" / "ledger.db").exists(), "CREDIT_DATA is where it was typed"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_all_of_it_the_sandbox_included(serve: Serve, how: signal.Signals) -> None:
    serve.wait()
    assert len(serve.processes()) >= 3
    if how == signal.SIGINT:
        os.killpg(serve.process.pid, how)  # as the terminal does it
    else:
        serve.process.send_signal(how)
    assert serve.process.wait(20) == 0
    assert serve.processes() == []
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{serve.port}/healthz", timeout=2)


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGKILL])
def test_a_closed_terminal_or_a_kill_leaves_nothing_running(serve: Serve, how: signal.Signals) -> None:
    """gunicorn takes HUP for "reload", and nothing can be told to a process that is killed."""
    serve.wait()
    os.killpg(serve.process.pid, how)
    serve.process.wait(20)
    deadline = time.monotonic() + 15
    while serve.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert serve.processes() == []


def test_half_of_the_wechat_settings_is_a_mistake_and_no_sandbox(tmp_path: Path) -> None:
    serve = Serve(tmp_path, WECHAT_APPID="wx1234567890123456")
    assert serve.process.wait(20) != 0
    assert "WECHAT_SECRET" in serve.said
    assert "SANDBOX" not in serve.said
    serve.end()


def test_help_teaches_and_arguments_are_refused() -> None:
    shown = subprocess.run(
        [ROOT / "scripts" / "serve", "--help"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert re.search("CREDIT_BIND.*WECHAT_API", shown.stdout, re.DOTALL)
    refused = subprocess.run(
        [ROOT / "scripts" / "serve", "now"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert refused.returncode == 2
    assert "--help" in refused.stderr


def test_an_old_python_is_refused_by_name(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text(
        "#!/bin/sh\nexec python3 -c \"import sys; sys.version_info=(3,9,2); sys.version='3.9.2'\n$(cat)\""
    )
    old.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "install", "requirements.lock"],
        env={**os.environ, "PYTHON": str(old)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert "3.11" in done.stderr
