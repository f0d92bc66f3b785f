"""The mini-program without a browser: WeChat's classic runtime, its modules under Node, static checks."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HARNESS = Path(__file__).parent / "miniprogram"

if not shutil.which("node"):
    pytest.skip("the mini-program was NOT tested: node is missing", allow_module_level=True)
if not (HARNESS / "node_modules").is_dir():
    pytest.skip("the mini-program was NOT tested: run `npm ci` in tests/miniprogram", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("within_a_day")
needs_wcc = pytest.mark.skipif(
    platform.system() == "Linux" and platform.machine() != "x86_64",
    reason="NOT tested: WeChat's compiler wcc comes for x86-64 only",
)


def run(*command, **environment):
    done = subprocess.run(
        command,
        cwd=HARNESS,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(path.name, marks=[needs_wcc] if path.name == "page.test.js" else [])
        for path in sorted(HARNESS.glob("*.test.js"))
    ],
)
def test_under_node(file, service):
    output = run("node", "--test", "--test-reporter=tap", file, CREDIT_LEDGER_URL=service.url)
    # A file that registers no test passes too, with one "test" of the file's own name.
    assert int(re.search(r"^# pass (\d+)$", output, re.MULTILINE)[1]) > 1, output


@needs_wcc
def test_types_lint_and_wechats_own_compiler_find_nothing():
    run("npm", "run", "--silent", "check")


def test_the_lock_file_names_no_registry():
    lock = (HARNESS / "package-lock.json").read_text()
    assert '"integrity"' in lock
    assert "resolved" not in lock
    assert not re.search(r"https?://[^\"]*\.tgz", lock)
