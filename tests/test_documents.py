"""The documents say what is true: names are compared with the code, programs and example files are run."""

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import msgspec
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from falcon import inspect as falcon_inspect
from prometheus_client import Counter, Histogram

import api.metrics
from api.accounts import SCOPES
from api.app import create_app
from api.bulk import MAX_LINE_BYTES, MAX_LINES
from api.problems import LOGIN_FAILURES, REFUSAL_STATUS
from api.service import Service as ApiService
from api.settings import read_settings
from bench.report import BEGIN, END
from ledger import fault
from ledger.decide import MAX_OPEN
from ledger.events import EVENT_TYPES
from ledger.refusals import REFUSALS
from ledger.sqlite import connect
from scripts import serve_here
from scripts.credit_ledger_audit import audit
from tests.conftest import PATIENCE_S, ROOT, Sandbox, Service, free_port
from tests.documented import Run, mask, run_commands, run_requests, steps_of

EXAMPLES = ROOT / "docs" / "examples"
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
APIS = [ROOT / "docs" / "api.md", ROOT / "docs" / "api.zh-CN.md"]
PROOFS = [ROOT / "docs" / "proofs.md", ROOT / "docs" / "proofs.zh-CN.md"]
RECIPES = [ROOT / "docs" / "recipes.md", ROOT / "docs" / "recipes.zh-CN.md"]
PAGES = [*READMES, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("**/*.md"))]
DOCUMENTS = [*PAGES, *sorted(path for path in EXAMPLES.iterdir() if path.is_file())]

each_readme = pytest.mark.parametrize("readme", READMES, ids=lambda path: path.name)
each_api = pytest.mark.parametrize("page", APIS, ids=lambda path: path.name)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def fenced(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def program(page: Path, name: str) -> str:
    """The one Python program of a page whose first line begins with `# NAME:`."""
    (found,) = [block for block in fenced(page, "python") if block.startswith(f"# {name}:")]
    return found


# -- names ------------------------------------------------------------------------------------------------


@each_readme
def test_the_settings_documented_are_the_settings_read(readme: Path) -> None:
    names = r"\b(?:CREDIT|WECHAT)_[A-Z_]*[A-Z]\b"
    read = set(re.findall(names, (ROOT / "api" / "settings.py").read_text()))
    assert len(read) == 11
    assert set(re.findall(names, readme.read_text())) == read
    assert set(re.findall(rf"^\| `({names})` \|", readme.read_text(), re.MULTILINE)) == read


@each_readme
def test_the_defaults_documented_are_the_defaults(readme: Path) -> None:
    documented = dict(re.findall(r"^\| `(CREDIT_[A-Z_]+)` \| `([^`]+)` \|", readme.read_text(), re.MULTILINE))
    settings = read_settings({"WECHAT_APPID": "wx", "WECHAT_SECRET": "s"})
    assert read_settings({"WECHAT_APPID": "wx", "WECHAT_SECRET": "s", **documented}) == settings
    assert set(documented) == {
        "CREDIT_BIND", "CREDIT_SIGNUP_GRANT", "CREDIT_CHECKIN", "CREDIT_RATE_KEY", "CREDIT_RATE_TOKEN",
        "CREDIT_RATE_LOGIN",
    }  # fmt: skip


@each_readme
def test_the_routes_documented_are_the_routes_of_the_app(readme: Path) -> None:
    settings = read_settings({"WECHAT_APPID": "wx", "WECHAT_SECRET": "s"})
    routes = falcon_inspect.inspect_routes(create_app(ApiService(settings)))
    there = {
        f"{method.method} {route.path}"
        for route in routes
        for method in route.methods
        if not method.internal and method.method not in ("OPTIONS", "HEAD")
    }
    # The benchmark's table has routes in its first column as well.
    text = re.sub("<!-- bench:begin -->.*<!-- bench:end -->", "", readme.read_text(), flags=re.DOTALL)
    documented = re.findall(r"^\| `([A-Z]+ /\S*)` \|", text, re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == there


@each_readme
def test_each_route_has_a_real_request_and_answer(readme: Path) -> None:
    """Every route of the table is asked in the blocks below it; another test has them answered."""
    text = readme.read_text()
    asked = {
        tuple(step.asked.split("?")[0].split()[:2]) for block in steps_of(readme, "http") for step in block
    }
    for method, path in re.findall(r"^\| `(GET|POST|PUT|DELETE) (/\S*)` \|", text, re.MULTILINE):
        if "hello world" not in path and "benchmark" not in path:
            pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
            assert any(method == verb and pattern.fullmatch(where) for verb, where in asked), (method, path)


@each_api
def test_every_code_that_a_client_may_meet_is_documented(page: Path) -> None:
    text = page.read_text()
    sources = [path.read_text() for path in (ROOT / "api").glob("*.py")]
    said = r"Problem\(|_refused\([^,\"]+,|_refuse\(|_trouble = \(|problem\(|write_problem\(resp,"
    named = rf'(?:{said})\s*(\d+),\s*"([a-z-]+)"'
    problems = {found for source in sources for found in re.findall(named, source)}
    assert {("503", "not-ready"), ("413", "too-many-lines"), ("422", "invalid-command")} <= problems
    documented = {
        code: row[2]
        for row in re.findall(r"^\| ((?:`[a-z-]+`[,、]? ?)+) \| ([\d, 、]+) \|", text, re.MULTILINE)
        for row in [("", *row)]
        for code in re.findall(r"`([a-z-]+)`", row[1])
    }
    for status, code in problems:
        assert status in documented[code], code
    for code, (status, _) in LOGIN_FAILURES.items():
        assert f"| `{code}` | {status} |" in text
    for code in ("session-key-stale", "userinfo-invalid"):
        assert all(f"`{code}`" in readme.read_text() for readme in READMES)


@each_api
def test_every_refusal_is_documented_with_its_status_and_figures(page: Path) -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\d+) \| ((?:`\w+`[,、]? ?)+) \| (yes|no|能|不能) \|",
        page.read_text(),
        re.MULTILINE,
    )
    documented = [
        (code, int(status), re.findall(r"`(\w+)`", figures), retry in ("yes", "能"))
        for code, status, figures, retry in rows
    ]
    assert documented == [
        (refusal.code, status, [field.name for field in fields(refusal)], refusal.retry_helps)
        for refusal, status in REFUSAL_STATUS.items()
    ]


def test_the_order_of_refusals_documented_is_the_order() -> None:
    text = (ROOT / "docs" / "design.md").read_text()
    rows = re.findall(r"^\| `([A-Z]\w+)` \| ((?:`[a-z-]+`,? ?)*)\|", text, re.MULTILINE)
    assert [(command, re.findall(r"`([a-z-]+)`", codes)) for command, codes in rows] == [
        (command.__name__, [refusal.code for refusal in refusals]) for command, refusals in REFUSALS.items()
    ]


@each_api
def test_every_event_is_documented_with_its_facts(page: Path) -> None:
    rows = re.findall(r"^\| `([A-Z]\w+)` \| (.*?) ?\| ", page.read_text(), re.MULTILINE)
    documented = {name: re.findall(r"`(\w+)`(\?)?", facts) for name, facts in rows}
    assert documented == {
        name: [(field.encode_name, "" if field.required else "?") for field in msgspec.structs.fields(event)]
        for name, event in EVENT_TYPES.items()
    }


@each_api
def test_the_scopes_documented_are_the_scopes(page: Path) -> None:
    table = page.read_text().partition("| scope |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table or page.read_text(), re.MULTILINE)) >= SCOPES


def test_the_bounds_documented_are_the_bounds() -> None:
    for readme in READMES:
        assert re.search(f"{MAX_OPEN:,} (open lots|份)", readme.read_text())
        assert f"{MAX_LINES:,}" in readme.read_text()
    for page in APIS:
        lines = re.findall(r"(?<!第 )(?<![\d,])([\d,]+)\s(?:lines|行)", page.read_text())
        assert set(lines) == {f"{MAX_LINES:,}"}
        assert f"{MAX_OPEN:,}" in page.read_text()
        assert f"{MAX_LINE_BYTES:,}" in page.read_text()


def test_every_failure_code_is_in_the_table_of_wechats_errors_or_is_our_own() -> None:
    text = (ROOT / "docs" / "wechat.md").read_text()
    for code in LOGIN_FAILURES:
        assert f"`{code}`" in text or code in ("not-committed", "outcome-unknown")


def test_the_metrics_documented_are_the_metrics_there() -> None:
    metrics = [value for value in vars(api.metrics).values() if isinstance(value, Counter | Histogram)]
    there = {
        metric.describe()[0].name + ("_total" if isinstance(metric, Counter) else "") for metric in metrics
    }
    text = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^\| `(credit_\w+)` \| (?:counter|histogram) \|", text, re.MULTILINE)) == there


def test_the_modules_documented_are_the_modules() -> None:
    table = (ROOT / "docs" / "design.md").read_text().partition("| modules |")[2].partition("\n\n")[0]
    documented = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(documented) == sorted(
        path.stem for path in (ROOT / "ledger").glob("*.py") if path.stem != "__init__"
    )


def test_what_an_audit_names_and_takes_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition("\n## Audit\n")[2].partition("\n## ")[0]
    names = r"^\| `([a-z][a-z-]+)` \|"
    assert ["what", *re.findall(names, section, re.MULTILINE)] == re.findall(
        names, str(fault.__doc__), re.MULTILINE
    )
    options = {option for parameter in audit.params for option in parameter.opts}
    assert set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)) == options


def test_the_drawings_stand_by_themselves() -> None:
    drawings = list((ROOT / "docs" / "images").iterdir())
    assert len(drawings) == 2
    for drawing in drawings:
        text = drawing.read_text()
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme:dark" in text
        assert not re.search(r"href|<script|<image|@import|url\((?!#)|\bon\w+=", text)


@each_readme
def test_the_curl_lines_are_those_of_the_banner(readme: Path) -> None:
    banner = serve_here._BANNER.format(bind="127.0.0.1:3000", data="data")
    lines = [line.strip() for line in banner.splitlines() if "curl" in line]
    assert len(lines) == 3
    for line in lines:
        assert f"$ {line}\n" in readme.read_text()


@pytest.mark.parametrize("pair", [READMES, APIS, PROOFS, RECIPES], ids=lambda pair: pair[0].name)
def test_both_languages_have_the_same_examples_chapters_and_tables(pair: list[Path]) -> None:
    english, chinese = (page.read_text() for page in pair)
    blocks = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    assert blocks.findall(english) == blocks.findall(chinese)
    for what in (r"^#+(?= )", r"^\| (`[^|]*`) \|"):
        found = [
            re.findall(what, blocks.sub("", text.partition(BEGIN)[0] + text.partition(END)[2]), re.MULTILINE)
            for text in (english, chinese)
        ]
        assert [item.replace("、", ", ") for item in found[0]] == [
            item.replace("、", ", ") for item in found[1]
        ]


# -- form -------------------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        if "://" in link:
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if fragment:
            assert fragment in _anchors(target), link


_HOSTS = {
    "127.0.0.1:3000",
    "api.weixin.qq.com",
    "c2sp.org",
    "keepachangelog.com",
    "semver.org",
    "www.rfc-editor.org",
    "your.domain",
    "你的域名",
    "credit_ledger",  # nginx's own name for the service
    "$host$request_uri",
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_names_a_registry_or_a_place_on_somebodys_machine(document: Path) -> None:
    text = document.read_text()
    assert {urlsplit(url).netloc for url in re.findall(r"https?://[^\s`\"'|)，;]+", text)} <= _HOSTS
    for private in ("/work/", "/root/", "/home/", "/tmp/", "index-url", "registry.", "pypi"):
        assert private not in text


@each_readme
def test_the_benchmark_finds_its_place(readme: Path) -> None:
    text = readme.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)


# -- programs ---------------------------------------------------------------------------------------------


def run(*command: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    # As the editable install in .venv has it: programs in other places can import the product.
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE_S)


def recompute(tmp_path: Path, ledger: Path, openid: str) -> "subprocess.CompletedProcess[str]":
    """Runs the auditor's program, which uses Python's own SQLite: a process of its own, and isolated (-I)."""
    script = tmp_path / "chain.py"
    script.write_text(program(READMES[0], "chain.py"))
    return run(sys.executable, "-I", script, ledger, openid)


def head_of(ledger: Path, openid: str) -> str:
    connection = connect(ledger, read_only=True)
    (head,) = connection.execute("SELECT head FROM account WHERE openid = ?", (openid,)).fetchone()
    connection.close()
    return str(head.hex())


def test_an_auditor_can_recompute_a_chain_beside_the_running_service(service: Service, tmp_path: Path) -> None:
    service.login("documented")
    openid = service.openid_of("documented")
    service.grant(openid, 50, "sorry for the delay 🙏", "ticket-1234")
    ledger = service.data / "ledger.db"
    done = recompute(tmp_path, ledger, openid)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"3 events, head {head_of(ledger, openid)}\n"


def test_an_auditor_finds_what_was_changed_in_a_backup(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service()
    service.login("alice")
    openid = service.openid_of("alice")
    service.grant(openid, 50, "gift", "k1")
    target = tmp_path / "backup"
    command_line(service, "backup", str(target))
    ledger = target / "ledger.db"
    assert recompute(tmp_path, ledger, openid).returncode == 0
    tampering = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        " c.execute('DROP TRIGGER event_is_never_updated');"
        " c.execute(\"UPDATE event SET data = replace(data, 'gift', 'gilt') WHERE version = 3\"); c.commit()"
    )
    assert run(sys.executable, "-c", tampering, ledger).returncode == 0
    done = recompute(tmp_path, ledger, openid)
    assert (done.returncode, done.stderr) == (1, "version 3 is wrong\n")


def _curl_is_new_enough() -> bool:
    if not shutil.which("curl") or not shutil.which("bash"):
        return False
    version = re.match(r"curl (\d+)\.(\d+)", run("curl", "--version").stdout)
    return version is not None and (int(version[1]), int(version[2])) >= (7, 82)


needs_curl = pytest.mark.skipif(
    not _curl_is_new_enough(), reason="the curl lines were NOT run: bash or curl 7.82 is missing"
)


@needs_curl
def test_the_three_curl_lines_log_in_and_read_credit(service: Service) -> None:
    banner = serve_here._BANNER.format(bind=f"127.0.0.1:{service.port}", data="data")
    lines = [line.strip() for line in banner.splitlines() if "curl" in line]
    done = run("bash", "-c", "\n".join(lines))
    credit, events = done.stdout.splitlines()
    assert credit == '{"credit":100}'
    assert events.startswith('{"events":[{"version":2,"type":"CreditGranted","data":{')


# -- examples ---------------------------------------------------------------------------------------------


# Changes the credit in the account rows behind the service's back: run unseen, before the audit that says so.
_TAMPER = (
    f"{sys.executable} -c \"import os, sqlite3; c = sqlite3.connect(os.environ['CREDIT_DATA'] + '/ledger.db');"
    " c.execute('UPDATE account SET credit = 9999, granted = 9999'); c.commit()\""
)


def command_line(service: Service, *arguments: str) -> str:
    """What the command line prints, which must be good."""
    command = [sys.executable, "-c", "from scripts.credit_ledger import main; main()", *arguments]
    done = run(*command, CREDIT_DATA=str(service.data))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check(ran: Run) -> None:
    for step in ran.steps:
        assert mask(step.answered) == mask(step.documented), step.asked


@needs_curl
def test_the_readmes_commands_answer_what_it_says(unsealed_service: Service, tmp_path: Path) -> None:
    blocks = steps_of(READMES[0], "console")
    assert sum(map(len, blocks)) > 20
    check(run_commands(unsealed_service, blocks, tmp_path, {"WRONG": _TAMPER}))


@needs_curl
def test_the_recipes_answer_what_they_say(unsealed_service: Service, tmp_path: Path) -> None:
    blocks = steps_of(RECIPES[0], "console")
    assert sum(map(len, blocks)) > 40
    check(run_commands(unsealed_service, blocks, tmp_path, {}))


@needs_curl
def test_the_commands_about_proofs_answer_what_the_page_says(unsealed_service: Service, tmp_path: Path) -> None:
    blocks = steps_of(PROOFS[0], "console")
    assert sum(map(len, blocks)) > 10
    check(run_commands(unsealed_service, blocks, tmp_path, {}))


def printed(page: Path, command: str) -> str:
    """What a page prints below the command that ends like this."""
    (found,) = [
        step.documented for block in steps_of(page, "console") for step in block if step.asked.endswith(command)
    ]
    return found


def test_the_proof_printed_verifies_and_comes_to_the_hashes_printed(tmp_path: Path) -> None:
    """It was captured from a real service once, and whoever writes a verifier tries it with these bytes."""
    answer, proof = tmp_path / "answer.json", tmp_path / "proof.json"
    for file in (answer, proof):
        file.write_text(printed(PROOFS[0], f"cat {file.name}; echo"))
    vkey, openid = printed(PROOFS[0], 'echo "$VKEY"').strip(), "o2fv3_VxtHnCpuzaOoKm7luAtrSw"
    verifier = [sys.executable, "-I", ROOT / "scripts" / "verify_proof.py", "proof", proof]
    done = run(*verifier, "--openid", openid, "--vkey", vkey, "--receipt", answer)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["VERIFIED"]), done.stdout + done.stderr
    steps = steps_of_proof(json.loads(proof.read_text()), json.loads(answer.read_text())["receipt"], openid)
    assert f"```\n{steps}```\n" in PROOFS[0].read_text()


def steps_of_proof(proof: dict[str, Any], receipt: dict[str, Any], openid: str) -> str:
    """The bytes that are hashed on the way to the notes, and their hashes, with nothing of the ledger's own
    code; of a proof whose path has one step."""

    def part(value: str | int | bytes | None) -> bytes:
        if value is None:
            return b"\xff" * 4
        if isinstance(value, int):
            value = value.to_bytes(8, "big")
        data = value.encode() if isinstance(value, str) else value
        return len(data).to_bytes(4, "big") + data

    steps: dict[str, bytes] = {}

    def hashed(name: str, data: bytes) -> bytes:
        steps[f"{name}, of"] = data
        steps[name] = sha256(data).digest()
        return steps[name]

    previous, key = bytes(32), hashed("openid_hash", openid.encode())
    for event in proof["events"]:
        names = ("version", "type", "data", "credit", "key")
        mark = None if event["fingerprint"] is None else bytes.fromhex(event["fingerprint"])
        columns = [previous, key, *(event[name] for name in names), mark, event["recorded_at_us"]]
        previous = hashed(f"event {event['version']}", b"\x02" + b"".join(map(part, columns)))
        assert previous.hex() == event["hash"]
    numbers = [proof[name].to_bytes(8, "big") for name in ("version", "credit", "held")]
    leaf = hashed("leaf", b"\0" + key + numbers[0] + previous + numbers[1] + numbers[2])
    path = b64decode(proof["path"])
    steps["depth, sum and hash of the only step"] = path
    depth, length = path[:2]
    sides = [path[-32:] + path[2:-32].rjust(16, b"\0"), leaf + proof["credit"].to_bytes(16, "big")]
    assert length == len(path) - 34
    if not key[depth // 8] >> 7 - depth % 8 & 1:
        sides.reverse()
    assert hashed("root", bytes((1, depth)) + sides[0] + sides[1]).hex() == proof["seal"]["root"]
    for name, entry, note in (
        ("entry of the seal", proof["seal"]["entry"], proof["seal"]["note"]),
        ("entry of the receipt", receipt_entry(receipt), receipt["note"]),
    ):
        assert b64encode(hashed(name, b"\0" + entry.encode())).decode() == note.split("\n")[2]
    return "".join(f"{name}\n    {data.hex()}\n" for name, data in steps.items())


def receipt_entry(receipt: dict[str, Any]) -> str:
    names = ("openid_hash", "version", "hash", "credit", "recorded_at_us")
    return "".join(["credit-ledger receipt v1\n", *(f"{name} {receipt[name]}\n" for name in names)])


def test_the_readmes_requests_are_answered_as_it_says(unsealed_service: Service, sandbox: Sandbox) -> None:
    blocks = steps_of(READMES[0], "http")
    assert sum(map(len, blocks)) > 40
    check(
        run_requests(
            unsealed_service, blocks, key_of(unsealed_service), sandbox.user_info, seals_made(unsealed_service)
        )
    )


def seals_made(service: Service) -> dict[str, Callable[[], object]]:
    """The requests of the README that count on a seal that was made right before."""

    def seal() -> object:
        return command_line(service, "seal")

    return {"GET /v1/me/proof": seal, f"GET /v1/accounts/{service.openid_of('alice')}/proof": seal}


def key_of(service: Service, *scopes: str) -> str:
    """A new API key of the service, from the command line."""
    given = [f"--scope={scope}" for scope in scopes or ("read", "grant", "spend", "operate")]
    return command_line(service, "key", "create", "tests", *given)


# -- example files ----------------------------------------------------------------------------------------


@dataclass
class Proxy:
    """A proxy on loopback in front of the service, and everything that it logged."""

    url: str
    plain_url: str
    logs: list[Path]
    process: "subprocess.Popen[bytes]"
    session: requests.Session
    chain: Path

    def log(self) -> str:
        return "".join(path.read_text() for path in self.logs if path.exists())


def put(text: str, old: str, new: str) -> str:
    assert old in text, f"the example file has no {old!r} any more"
    return text.replace(old, new)


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate of `localhost`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = directory / "fullchain.pem", directory / "privkey.pem"
    chain.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return chain, private


_WRITABLE = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nginx_command(directory: Path, upstream: int, tls: int, plain: int) -> tuple[list[str], list[Path]]:
    """The example file with ports, certificate and logs of the test's own, inside a bare http block."""
    site = (EXAMPLES / "nginx.conf").read_text()
    site = re.sub(r"^ *listen \[::\]:.*\n", "", site, flags=re.MULTILINE)  # not every machine has IPv6
    site = put(site, "listen 80;", f"listen 127.0.0.1:{plain};")
    site = put(site, "listen 443 ssl", f"listen 127.0.0.1:{tls} ssl")
    site = put(site, "server 127.0.0.1:3000;", f"server 127.0.0.1:{upstream};")
    site = put(site, "/etc/letsencrypt/live/credit.example.com/", f"{directory}/")
    site = put(site, "/var/log/nginx/", f"{directory}/")
    site = put(site, "credit.example.com", "localhost")
    (directory / "site.conf").write_text(site)
    paths = "".join(f"{name}_temp_path {directory}/{name};" for name in _WRITABLE)
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log {directory}/main.log;\n"
        f"events {{}}\nhttp {{ {paths} include {directory}/site.conf; }}\n"
    )
    options = ["-p", str(directory), "-e", f"{directory}/main.log", "-c", f"{directory}/nginx.conf"]
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    checked = run(nginx, "-t", *options)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    return [nginx, *options], [directory / "credit-ledger.log"]


def caddy_command(directory: Path, upstream: int, tls: int, plain: int) -> tuple[list[str], list[Path]]:
    """The example file with ports and certificate of the test's own; its log goes to standard error."""
    site = (EXAMPLES / "Caddyfile").read_text()
    site = put(site, "reverse_proxy 127.0.0.1:3000", f"reverse_proxy 127.0.0.1:{upstream}")
    site = put(
        site,
        "\ncredit.example.com {\n",
        f"\nlocalhost {{\n\ttls {directory}/fullchain.pem {directory}/privkey.pem\n\tbind 127.0.0.1\n",
    )
    options = f"\tadmin off\n\thttp_port {plain}\n\thttps_port {tls}\n"
    file = directory / "Caddyfile"
    file.write_text(put(site, "\n{\n", "\n{\n" + options))
    validated = run("caddy", "validate", "--adapter", "caddyfile", "--config", EXAMPLES / "Caddyfile")
    assert validated.returncode == 0, validated.stderr
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)], [directory / "stderr"]


def _have(name: str) -> bool:
    return shutil.which(name) is not None or Path(f"/usr/sbin/{name}").exists()


_COMMANDS: dict[str, Callable[..., tuple[list[str], list[Path]]]] = {
    "nginx": nginx_command,
    "caddy": caddy_command,
}


each_proxy = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not _have(name), reason=f"the example file of {name} was NOT tested: apt-get install {name}"
            ),
        )
        for name in _COMMANDS
    ],
)


@contextmanager
def proxying(name: str, upstream: int, directory: Path) -> Iterator[Proxy]:
    """The example file of nginx or Caddy, running in front of a port of this machine."""
    tls, plain = free_port(), free_port()
    chain, _ = certificate(directory)
    command, logs = _COMMANDS[name](directory, upstream, tls, plain)
    environ = {**os.environ, "HOME": str(directory)}
    environ |= dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(directory))
    with (directory / "stderr").open("wb") as output:
        process = subprocess.Popen(command, cwd=directory, env=environ, stdout=output, stderr=output)
    session = requests.Session()
    session.trust_env = False
    session.verify = str(chain)
    running = Proxy(f"https://localhost:{tls}", f"http://localhost:{plain}", logs, process, session, chain)
    try:
        _wait_until_up(running, directory / "stderr")
        yield running
    finally:
        session.close()
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_up(proxy: Proxy, output: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert proxy.process.poll() is None, output.read_text()
        try:
            proxy.session.get(f"{proxy.url}/healthz", timeout=2)
            return
        except (requests.ConnectionError, requests.Timeout):
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.05)


def post(proxy: Proxy, path: str, body: dict[str, Any]) -> requests.Response:
    return proxy.session.post(proxy.url + path, json=body, timeout=PATIENCE_S)


@each_proxy
def test_the_example_of_a_proxy_serves_the_mini_program_and_keeps_private_what_is(
    name: str, service: Service, tmp_path: Path
) -> None:
    with proxying(name, service.port, tmp_path) as proxy:
        check_proxy(proxy, service)


def check_proxy(proxy: Proxy, service: Service) -> None:
    token = post(proxy, "/login", {"code": f"dev-proxied-{time.time_ns()}"}).json()["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    get = proxy.session.get
    answer = get(f"{proxy.url}/v1/me/credit", headers=bearer, timeout=PATIENCE_S)
    assert (answer.json()["version"], answer.json()["credit"]) == (2, 100)
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    assert get(f"{proxy.url}/credit", params={"token": token}, timeout=PATIENCE_S).json() == {"credit": 100}

    redirected = get(f"{proxy.plain_url}/credit?token={token}", allow_redirects=False, timeout=PATIENCE_S)
    assert redirected.status_code == 308
    assert redirected.headers["Location"].startswith("https://localhost")

    private = ("/metrics", "/metrics?x", "/readyz", "//metrics", "/metrics/", "/%6Detrics", "/x/../metrics")
    for path in private:
        request = requests.Request("GET", proxy.url).prepare()
        request.url = proxy.url + path  # requests would tidy it up
        refused = proxy.session.send(request, timeout=PATIENCE_S)
        assert refused.status_code == 404, path
        assert "credit_requests" not in refused.text

    for path in ("/credit", "/v1/me/credit"):
        named = get(proxy.url + path, headers={"X-Request-ID": "chosen-by-a-client"}, timeout=PATIENCE_S)
        request_id = named.headers["X-Request-ID"]
        assert request_id != "chosen-by-a-client"
        assert f'"request_id":"{request_id}"' in service.log

    for size in (66_000, 1_000_000):
        assert post(proxy, "/login", {"code": "x" * size}).status_code == 413
    assert post(proxy, "/login", {"code": "x" * 65_000}).json()["code"] == "code-invalid"

    deadline = time.monotonic() + PATIENCE_S
    while request_id not in proxy.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert request_id in proxy.log()
    assert "/credit" in proxy.log()
    assert token not in proxy.log()


@each_proxy
def test_many_grants_go_through_a_proxy(name: str, service: Service, tmp_path: Path) -> None:
    """More than any other body may have; nginx gives the first answers while lines are still being sent."""
    key, openid = key_of(service, "grant", "read"), service.openid_of(f"bulk{name}")
    service.login(f"bulk{name}")
    reason = "a reason of some length, " * 7
    lines = [
        json.dumps({"openid": openid, "key": f"line-{n}", "amount": 1, "reason": reason}).encode() + b"\n"
        for n in range(3000)
    ]
    assert sum(map(len, lines)) > 10 * 65_536
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
    with proxying(name, service.port, tmp_path) as proxy:
        answers = send_bit_by_bit(proxy, lines, headers, early=1000 if name == "nginx" else 0)
        assert [line["line"] for line in answers] == list(range(1, 3001))
        assert {line["status"] for line in answers} == {201}
        # Again and whole, with its length announced: nothing happens twice.
        again = proxy.session.post(
            f"{proxy.url}/v1/grants", b"".join(lines), headers=headers, timeout=PATIENCE_S
        )
        assert [json.loads(line)["replayed"] for line in again.content.splitlines()] == [True] * 3000
        credit = proxy.session.get(
            f"{proxy.url}/v1/accounts/{openid}", headers=headers, timeout=PATIENCE_S
        ).json()
        assert credit["credit"] == 3100


def send_bit_by_bit(
    proxy: Proxy, lines: list[bytes], headers: dict[str, str], *, early: int
) -> list[dict[str, Any]]:
    """The answers to a bulk grant that is sent bit by bit; `early` of them must be here before its end is."""
    tls = ssl.create_default_context(cafile=str(proxy.chain))
    connection = http.client.HTTPSConnection(
        "localhost", urlsplit(proxy.url).port, timeout=PATIENCE_S, context=tls
    )
    pieces = [b"".join(lines[start : start + 50]) for start in range(0, len(lines), 50)]
    answers = []
    with closing(connection):
        connection.putrequest("POST", "/v1/grants")
        for header in {**headers, "Transfer-Encoding": "chunked"}.items():
            connection.putheader(*header)
        connection.endheaders()
        for piece in pieces[:-1]:
            connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            # By and by the service answers, and that must not get in the way of what is still to come.
            time.sleep(0 if early else 0.02)
        if early:
            answer = connection.getresponse()
            answers = [json.loads(answer.readline()) for _ in range(early)]
        connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(pieces[-1]), pieces[-1]))
        if not early:
            answer = connection.getresponse()
        assert answer.status == 200
        return answers + [json.loads(line) for line in answer]


class FromAddress(requests.adapters.HTTPAdapter):
    """Requests that come from an address of this machine's choice: all of 127.0.0.0/8 is loopback on Linux."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, source_address=(self._address, 0))


@each_proxy
def test_logins_through_a_proxy_are_counted_by_the_address_of_the_client(
    name: str, new_service: Callable[..., Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDIT_RATE_LOGIN", "2/hour")
    service = new_service(workers=1)
    with proxying(name, service.port, tmp_path) as proxy:

        def statuses(address: str) -> list[int]:
            proxy.session.mount("https://", FromAddress(address))
            headers = [{}, {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8, 203.0.113.9"}]
            return [
                proxy.session.post(
                    f"{proxy.url}/login", json={"code": "-"}, headers=given, timeout=PATIENCE_S
                ).status_code
                for given in headers
            ]

        assert statuses("127.0.0.1") == [200, 200, 429]
        assert statuses("127.0.0.2") == [200, 200, 429]


@each_proxy
def test_the_example_of_a_proxy_logs_no_token_when_the_service_is_away(name: str, tmp_path: Path) -> None:
    """Lines about errors quote requests, in files and formats of their own."""
    with proxying(name, free_port(), tmp_path) as proxy:
        headers = {"Authorization": "Bearer a-secret-token"}
        for token in ("a-secret-token", "another&token=a-secret-token"):
            url = f"{proxy.url}/credit?token={token}"
            assert proxy.session.get(url, headers=headers, timeout=PATIENCE_S).status_code == 502
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"/credit" in text for text in written)
    assert not any(b"a-secret-token" in text for text in written)


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="the example of a systemd unit was NOT tested: apt-get install systemd",
)
def test_the_example_of_a_systemd_unit_verifies(tmp_path: Path) -> None:
    text = (EXAMPLES / "credit-ledger.service").read_text()
    command = ".venv/bin/gunicorn -c scripts/gunicorn_conf.py"
    assert f"ExecStart=/opt/credit-ledger/{command}\n" in text
    assert command in (ROOT / "docs" / "operations.md").read_text()
    # It looks whether the program is there; nothing is started.
    text = put(text, f"/opt/credit-ledger/{command}", sys.executable)
    unit = tmp_path / "credit-ledger.service"
    unit.write_text(put(text, "WorkingDirectory=/opt/credit-ledger", "WorkingDirectory=/"))
    done = run("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
