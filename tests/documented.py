"""The examples in a document, run: its console blocks in a shell, its `http` blocks as requests.

What a real service answers is compared with what the document says it does. What differs from one day to the
next (times, tokens, hashes, signatures, the ids of keys) is masked; versions, credits, codes and statuses are
not. `"receipt":{...}` stands for any receipt, and `...` at the end of an answer for the rest of it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from tests.conftest import PATIENCE_S, ROOT, Service

ADDRESS = "http://127.0.0.1:3000"
YEAR_END = "2026-12-31T16:00:00Z"
_END = "\x1e"
_BLOCK = re.compile(r"^```(console|http)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?Z)?|\b\d{4}-\d\d-\d\d\b"  # times, and days
    r"|\bck_[0-9a-f]{12}_[\w-]{43}(?![\w-])"  # API keys
    r"|(?<![\w-])[0-9a-f]{64}\b"  # hashes
    r'|(?<=")[\w-]{43}(?=")|(?<=token=)[\w-]{43}(?![\w-])'  # tokens
    r"|\b[0-9a-f]{12}\b"  # ids of keys
    r"|(?<=operator:)\w+"  # who ran the command line
    r'|(?<=_us":)\d{15,16}|(?<=sealed_at_us )\d{16}|(?<="day":)\d+'
    r"|\b[0-9a-f]{8}\+[A-Za-z0-9+/]{44}"  # the id and the key in a vkey
    r"|(?<=[\sn])[A-Za-z0-9+/]{43}=|(?<=[0-9] )[A-Za-z0-9+/]{91}="  # root and signature of a note
    r'|(?<="path":")[A-Za-z0-9+/=]+|(?<="inclusion":")[A-Za-z0-9+/=]+'
)
_RECEIPT = re.compile(r'"receipt":\{[^{}]*\}')


def mask(text: str) -> str:
    """`text` without all that differs between two runs."""
    return VOLATILE.sub("...", text).rstrip()


@dataclass
class Step:
    """One command or request of a document, what is printed below it, and what really came."""

    asked: str
    documented: str
    answered: str = ""


@dataclass
class Run:
    """All steps of a document, in order; `said` maps what the document says to what it was this time."""

    steps: list[Step]
    said: dict[str, str] = field(default_factory=dict)

    def note(self, step: Step, answered: str) -> None:
        if '"receipt":{...}' in step.documented:
            answered = _RECEIPT.sub('"receipt":{...}', answered)
        step.answered = answered
        told, true = VOLATILE.findall(step.documented), VOLATILE.findall(answered)
        if len(told) == len(true):
            self.said |= dict(zip(told, true, strict=True))

    def now(self, text: str) -> str:
        """`text` with each token or time that an earlier answer had as it was this time."""
        known = VOLATILE.sub(lambda found: self.said.get(found[0], found[0]), text)
        return known.replace(YEAR_END, _next_year_end())


def _next_year_end() -> str:
    """The examples stay true in later years: what ends with the year must end in the future."""
    return f"{(datetime.now(UTC) + timedelta(days=1)).year}{YEAR_END[4:]}"


def steps_of(page: Path, language: str) -> list[list[Step]]:
    """The steps of each block of a page that is in this language."""
    split = {"console": _commands, "http": _requests}[language]
    return [split(body) for kind, body in _BLOCK.findall(page.read_text()) if kind == language]


def _commands(block: str) -> list[Step]:
    """`$ command`, going on after a backslash at a line's end, and the lines that it prints."""
    steps: list[Step] = []
    for line in block.splitlines():
        if steps and not steps[-1].documented and steps[-1].asked.endswith("\\"):
            steps[-1].asked += "\n" + line
        elif line.startswith("$ "):
            steps.append(Step(line.removeprefix("$ "), ""))
        else:
            steps[-1].documented += line + "\n"
    return steps


def _requests(block: str) -> list[Step]:
    """`METHOD PATH BODY`, the body's further lines, then a line that begins with the status."""
    steps: list[Step] = []
    answering = True
    for line in block.splitlines():
        if re.match(r"(GET|POST|PUT|DELETE) /", line):
            steps.append(Step(line, ""))
            answering = False
        elif not answering and not re.match(r"\d{3}( |$)", line):
            steps[-1].asked += "\n" + line
        else:
            answering = True
            steps[-1].documented += line + "\n"
    return steps


def run_commands(service: Service, blocks: list[list[Step]], directory: Path, before: dict[str, str]) -> Run:
    """Run the steps in one shell. `before` has commands to run unseen before the first step whose answer
    holds the text that is their key."""
    ran = Run([step for block in blocks for step in block])
    left = dict(before)
    environ = {**os.environ, "CREDIT_DATA": str(service.data), "PYTHONPATH": str(ROOT)}
    shell = subprocess.Popen(
        ["bash"],
        cwd=directory,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with shell:
        for step in ran.steps:
            for text in [text for text in left if text in step.documented]:
                _printed(shell, left.pop(text))
            text = _printed(shell, _here(ran.now(step.asked), service))
            ran.note(step, text.replace(service.url, ADDRESS))
    return ran


def _printed(shell: "subprocess.Popen[bytes]", command: str) -> str:
    """What `command` prints, on either stream, in a shell that waits for it."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    shell.stdin.write(f"{command}\nprintf '{_END}'\n".encode())
    shell.stdin.flush()
    printed = b""
    while not printed.endswith(_END.encode()):
        piece = os.read(shell.stdout.fileno(), 65536)
        assert piece, f"the shell ended after {command!r}: {printed.decode()}"
        printed += piece
    return printed.decode().removesuffix(_END)


def _here(command: str, service: Service) -> str:
    program = f"{sys.executable} -c 'from scripts.credit_ledger import main; main()'"
    command = command.replace(ADDRESS, service.url).replace(".venv/bin/credit-ledger", program)
    return command.replace(".venv/bin/python scripts/", f"{sys.executable} {ROOT}/scripts/")


def run_requests(
    service: Service,
    blocks: list[list[Step]],
    key: str,
    profiles: Any,
    before: dict[str, Callable[[], object]],
) -> Run:
    """Send the requests, each write under a key of its own, with the token that the last login gave, or `key`
    where an account is in the path. `profiles(user)` is what `wx.getUserInfo` would give; `before` has what is
    to happen unseen before the request that is its key."""
    ran = Run([step for block in blocks for step in block])
    token = ""
    for number, step in enumerate(ran.steps):
        before.get(step.asked, lambda: None)()
        first, *more = ran.now(step.asked).split("\n")
        method, path, *rest = first.split(" ", 2)
        body = "\n".join([*rest, *more])
        if '"..."' in body:
            body = json.dumps(profiles("alice"))
        headers = {"Content-Type": "application/x-ndjson" if more else "application/json"}
        if method == "POST":
            headers["Idempotency-Key"] = f"documented-{number}"
        of_service = re.match(r"/v1/(accounts|grants)", path)
        if re.match(r"/v1/(?!sessions$|seals)", path) or method == "DELETE":
            headers["Authorization"] = f"Bearer {key if of_service else token}"
        answer = requests.request(
            method, service.url + path, data=body.encode() or None, headers=headers, timeout=PATIENCE_S
        )
        if answer.content.startswith(b'{"token"'):
            token = answer.json()["token"]
        ran.note(step, _shown(answer, step.documented))
    return ran


def _shown(answer: requests.Response, documented: str) -> str:
    """Status and body as the document has them: up to the `...` at which the document breaks off."""
    text = f"{answer.status_code} {answer.content.decode()}".strip() + "\n"
    if documented.rstrip().endswith("..."):
        start = documented.partition(" ")[2].rstrip().removesuffix("...")
        if f"\n{start}" in text:
            return f"{answer.status_code} {start}...\n"
        return text[: len(documented.rstrip()) - 3] + "...\n"
    return text
