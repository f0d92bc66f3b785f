"""What `scripts/serve` runs once everything is installed: gunicorn, beside the sandbox where it is wanted."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from api.settings import data_directory
from scripts import sandbox_wechat

_BANNER: Final = """
  Credit Ledger: http://{bind}  with the SANDBOX in place of WeChat
  ------------------------------------------------------------------
  Nothing leaves this machine, and anybody can log in as anybody. For the real thing set WECHAT_APPID and
  WECHAT_SECRET (README.md). Log in as alice, read her credit, read her statement:

  TOKEN=$(curl -s --json '{{"code":"dev-alice-'$RANDOM$RANDOM'"}}' http://{bind}/login | cut -d'"' -f4)
  curl -s "http://{bind}/credit?token=$TOKEN"; echo
  curl -s -H "Authorization: Bearer $TOKEN" http://{bind}/v1/me/events; echo

  The ledger is in {data}; Ctrl-C stops everything.
"""


def main() -> None:
    root = Path(__file__).resolve().parent.parent
    # gunicorn runs in the checkout; a relative CREDIT_DATA means what it says where it was typed.
    data = data_directory()
    environ = {**os.environ, "CREDIT_DATA": str(data)}
    sandbox = None
    if not environ.get("WECHAT_APPID") and not environ.get("WECHAT_SECRET"):
        sandbox, address = _start_sandbox()
        environ |= {
            "WECHAT_APPID": sandbox_wechat.APPID,
            "WECHAT_SECRET": sandbox_wechat.SECRET,
            "WECHAT_API": address,
        }
        bind = environ.get("CREDIT_BIND") or "127.0.0.1:3000"
        print(_BANNER.format(bind=bind, data=data), flush=True)
    gunicorn = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "scripts/gunicorn_conf.py"], env=environ, cwd=root
    )
    # Ctrl-C reaches gunicorn by itself, being of the same terminal; a signal to this process is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: gunicorn.terminate())
    status = gunicorn.wait()
    if sandbox is not None:
        sandbox.terminate()
        sandbox.wait()
    # Stopped by Ctrl-C or SIGTERM is what was asked for.
    sys.exit(0 if status in (0, -signal.SIGINT, -signal.SIGTERM) else status)


def _start_sandbox() -> tuple[subprocess.Popen[str], str]:
    """The stand-in WeChat in a process of its own, and its address. Ctrl-C passes it by: it ends last."""
    sandbox = subprocess.Popen(
        [sys.executable, "-P", "-m", "scripts.sandbox_wechat"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert sandbox.stdout is not None  # noqa: S101 - for the type checker: it was asked for above
    return sandbox, sandbox.stdout.readline().strip()


if __name__ == "__main__":
    main()
