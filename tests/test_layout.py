"""The architecture, as far as a machine can guard it: who imports whom, what is pure, how big things grow."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from api.problems import LOGIN_FAILURES, REFUSAL_STATUS
from api.wechat import _ERRCODE_FAILURES
from ledger.errors import Refusal

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    path for folder in ("ledger", "api", "scripts", "bench") for path in (ROOT / folder).glob("**/*.py")
)
TESTS = sorted((ROOT / "tests").glob("*.py"))
TORTURE = sorted((ROOT / "tests" / "torture").glob("*.py"))

PURE = {
    "events", "refusals", "commands", "account", "lots", "decide", "errors", "chain", "lapse", "projection",
    "merkle", "sums", "note", "seal", "fault",
}  # fmt: skip
# What each module of the ledger may import from it: one way, from what decides to what stores to what serves.
LEDGER_IMPORTS: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "events": {"errors"},
    "commands": {"errors", "events"},
    "account": {"errors", "events"},
    "refusals": {"commands", "errors"},
    "lots": {"account", "errors", "events"},
    "decide": {"account", "commands", "errors", "events", "lots"},
    "chain": {"account", "events", "sums"},
    "lapse": {"account", "chain", "events", "lots"},
    "execute": {"account", "chain", "commands", "decide", "errors", "events", "lapse"},
    "projection": {"account", "errors"},
    "sqlite": {"errors"},
    "schema": {"errors", "events", "projection", "sqlite"},
    "log": {"account", "errors", "events", "projection", "schema", "sqlite"},
    "committer": {"commands", "errors", "execute", "log", "sqlite"},
    "statement": {"account", "chain", "events", "lapse", "log", "projection", "schema", "sqlite"},
    "fault": set(),
    "follow": {"account", "chain", "errors", "events", "lapse", "log", "sums"},
    "audit_scan": {"log", "projection", "schema", "sums"},
    "range_audit": {
        "account",
        "audit_scan",
        "fault",
        "follow",
        "log",
        "parallel",
        "projection",
        "sealed_leaf",
        "sums",
    },
    "audit_trees": {"errors", "merkle", "seal_file", "sealed_leaf", "sums"},
    "receipt_audit": {"audit_scan", "fault", "merkle", "note", "seal"},
    "seal_audit": {
        "audit_scan",
        "audit_trees",
        "errors",
        "fault",
        "note",
        "range_audit",
        "receipt_audit",
        "seal",
        "seal_file",
        "sealed_leaf",
        "sums",
    },
    "quick_audit": {
        "account",
        "audit_scan",
        "fault",
        "follow",
        "parallel",
        "projection",
        "seal_audit",
        "seal_file",
        "sums",
    },
    "verify": {
        "audit_scan",
        "errors",
        "fault",
        "follow",
        "parallel",
        "quick_audit",
        "range_audit",
        "seal_audit",
        "sqlite",
    },
    "fold": {"account", "errors", "events", "fault", "projection"},
    "sealed_root": {"projection", "seal_file", "sums"},
    "beside": {"account", "chain", "errors", "fold", "log", "projection", "schema", "sqlite"},
    "replay_range": {"beside", "fault", "fold", "log", "parallel", "projection", "sealed_root"},
    "replay": {
        "beside",
        "directory",
        "errors",
        "fault",
        "fold",
        "log",
        "parallel",
        "projection",
        "replay_range",
        "seal_file",
        "sealed_root",
        "sqlite",
    },
    "parallel": {"log"},
    "totals": {"account", "errors", "events", "lapse", "log", "lots", "parallel", "sqlite", "statement"},
    "merkle": set(),
    "sums": set(),
    "note": set(),
    "seal": {"errors", "merkle", "note", "sums"},
    "sealed_leaf": {"sums"},
    "seal_file": {"errors", "seal", "sealed_leaf", "sqlite", "sums"},
    "directory": {"errors"},
    "file_system": {"errors"},
    "transfer": {"errors", "events", "log", "parallel", "seal_file"},
    "intake": {
        "account",
        "directory",
        "errors",
        "events",
        "follow",
        "log",
        "note",
        "parallel",
        "schema",
        "seal",
        "seal_file",
        "sealer",
        "sqlite",
        "transfer",
    },
    "backup": {"directory", "errors", "parallel", "seal_file", "sqlite", "verify"},
    "restore": {"backup", "directory", "errors", "log", "merkle", "note", "parallel", "seal_file", "sqlite"},
    "sealer": {"account", "log", "merkle", "note", "seal", "seal_file", "sealed_leaf", "sqlite", "sums"},
}
# `ledger.sqlite` is what access.db shares with the log: how a file is opened, and the turnstile.
SEEN_FROM_OUTSIDE = {
    "account", "commands", "committer", "directory", "errors", "events", "execute", "file_system", "merkle",
    "note", "refusals", "replay", "schema", "seal", "seal_file", "sqlite", "statement", "sums", "verify",
}  # fmt: skip
# Three for the log, one for each other file, one that reads, and how any of them is opened.
SQL = {
    "ledger/schema.py", "ledger/log.py", "ledger/audit_scan.py", "ledger/statement.py", "ledger/sqlite.py",
    "ledger/seal_file.py",
    "ledger/beside.py", "api/access.py",
    # The limits of the machine, which the ledger is held against.
    "bench/limits.py",
}  # fmt: skip
IMPURE = {
    "asyncio", "datetime", "fcntl", "logging", "os", "pathlib", "random", "secrets", "socket", "sqlite3",
    "sqlite_utils", "structlog", "subprocess", "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
BANNED_NAMES = {"manager", "utils", "util", "helpers", "helper", "service_base", "base", "common", "misc"}
# Settings are read in the first; the others hand an environment on to a process they start.
USES_ENVIRONMENT = {
    "api/settings.py",
    "api/sealing.py",
    "scripts/gunicorn_conf.py",
    "scripts/serve_here.py",
    "bench/machine.py",
}
# Programs of other people's making, in effect: each runs in a process of its own, with packages of its own.
CONTENDERS = {path for path in MODULES if ROOT / "bench" / "contenders" in path.parents}
MAX_MODULE_LINES = 300
# One file on purpose, and no part of the program: an auditor takes it elsewhere and reads it whole.
ONE_FILE = {"scripts/verify_proof.py": 460}
MAX_FUNCTION_LINES = 60
# The edges of the process, and the one place that must go on after a command's bug.
MAY_CATCH_EXCEPTION = {"ledger/committer.py"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """Every module that the file imports, `from a import b` as both a and a.b."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports are absolute"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ledger_modules(path: Path) -> set[str]:
    parts = (module.split(".") for module in imported(path))
    return {part[1] for part in parts if part[0] == "ledger" and len(part) > 1}


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name == "ledger"], ids=name)
def test_imports_within_the_ledger_point_one_way(path: Path) -> None:
    assert ledger_modules(path) <= LEDGER_IMPORTS[path.stem]
    assert not {module.split(".")[0] for module in imported(path)} & {"api", "scripts", "falcon", "requests"}


@pytest.mark.parametrize("path", [path for path in MODULES if path.parts[-2] != "bench"], ids=name)
def test_nothing_that_is_measured_knows_the_benchmark(path: Path) -> None:
    assert "bench" not in {module.split(".")[0] for module in imported(path)}


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent.name == "api"], ids=name)
def test_http_uses_the_ledger_from_outside(path: Path) -> None:
    assert ledger_modules(path) <= SEEN_FROM_OUTSIDE
    assert "scripts" not in {module.split(".")[0] for module in imported(path)}


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem in PURE], ids=name)
def test_pure_modules_have_no_clock_chance_files_or_logging(path: Path) -> None:
    assert not {module.split(".")[0] for module in imported(path)} & IMPURE


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_sql_lives_in_these_modules(path: Path) -> None:
    statement = re.compile(
        r"\bSELECT\s.+|\bINSERT (OR \w+ )?INTO\b|\bUPDATE \w+ SET\b|\bDELETE FROM\b|\bPRAGMA \w+"
        r"|\bBEGIN IMMEDIATE\b|\b(CREATE|DROP|ALTER) (TABLE|INDEX|TRIGGER|VIEW)\b"
    )
    strings = [
        node.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.search(node.value)
    ]
    assert not strings or name(path) in SQL or path in CONTENDERS


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_one_sqlite_library_in_a_process(path: Path) -> None:
    """Two of them drop each other's locks, and an acknowledged commit vanishes."""
    if path in CONTENDERS:
        return
    assert not {module.split(".")[0] for module in imported(path)} & {"sqlite3", "pysqlite3", "apsw"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    assert (
        name(path) in USES_ENVIRONMENT
        or path in CONTENDERS
        or not re.search(r"\bos\.(environ|getenv)\b", path.read_text())
    )


@pytest.mark.parametrize("path", MODULES + TESTS + TORTURE, ids=name)
def test_modules_and_functions_stay_readable(path: Path) -> None:
    if path not in TESTS:
        assert len(path.read_text().splitlines()) <= ONE_FILE.get(name(path), MAX_MODULE_LINES)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is too long"


@pytest.mark.parametrize("path", MODULES + TORTURE, ids=name)
def test_names_say_what_a_module_is(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    assert path.parent.name not in BANNED_NAMES


@pytest.mark.parametrize("path", MODULES + TORTURE, ids=name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_unknown_failures_fail(path: Path) -> None:
    if name(path) in MAY_CATCH_EXCEPTION:
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("everything", "Exception", "BaseException"), f"line {node.lineno}"


def test_no_function_of_the_ledger_takes_or_makes_a_float() -> None:
    for path in MODULES:
        if path.parent.name == "ledger":
            found = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Name) and node.id == "float"]
            assert not found, f"{name(path)}: credit is integers, ever"


def _subclasses(cls: type[Refusal]) -> set[type[Refusal]]:
    return {sub for direct in cls.__subclasses__() for sub in {direct} | _subclasses(direct)}


def test_every_refusal_has_a_status_and_a_code_of_its_own() -> None:
    refusals = _subclasses(Refusal)
    assert refusals == set(REFUSAL_STATUS)
    assert len({refusal.code for refusal in refusals}) == len(refusals)
    assert all(400 <= status < 500 for status in REFUSAL_STATUS.values())


def test_every_errcode_leads_to_a_failure_that_has_a_sentence() -> None:
    assert set(_ERRCODE_FAILURES.values()) <= set(LOGIN_FAILURES)


def test_the_write_path_fits_on_a_screen() -> None:
    (function,) = [
        node
        for node in tree(ROOT / "ledger" / "execute.py").body
        if isinstance(node, ast.FunctionDef) and node.name == "execute"
    ]
    assert (function.end_lineno or 0) - function.lineno < 40


def test_nothing_committed_names_a_machine_a_registry_or_a_secret() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / entry.decode() for entry in listed.split(b"\0") if entry]
    texts = {path: path.read_text("utf-8", "replace") for path in paths if path.is_file()}
    private = re.compile(
        r"/(?:work|root)/\w|pypi\.org|pythonhosted|registry\.npmjs|deb\.debian|-----BEGIN [A-Z ]*PRIVATE"
    )
    guilty = [name(path) for path, text in texts.items() if private.search(text) and path != Path(__file__)]
    assert texts
    assert guilty == []
    assert [name(path) for path in texts if path.suffix in (".db", ".png", ".key")] == []
