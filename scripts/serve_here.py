"""What `scripts/serve` runs once everything is installed: gunicorn, beside the sandbox where it is wanted."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from api.settings import data_directory
from scripts import sandbox_wechat

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

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
    serving: list[subprocess.Popen[bytes]] = []

    def stop(received: int, _: object) -> None:
        if not serving:
            sys.exit(0)  # Ctrl-C while still starting; whatever was started ends below
        # A terminal that is closed says HUP, which gunicorn would take for "reload".
        serving[0].send_signal(signal.SIGINT if received == signal.SIGINT else signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)

    root = Path(__file__).resolve().parent.parent
    # gunicorn runs in the checkout; a relative CREDIT_DATA means what it says where it was typed.
    data = data_directory()
    environ = {**os.environ, "CREDIT_DATA": str(data)}
    sandbox = None
    try:
        if not environ.get("WECHAT_APPID") and not environ.get("WECHAT_SECRET"):
            sandbox = _start([sys.executable, "-P", "-m", "scripts.sandbox_wechat"], stdout=subprocess.PIPE)
            environ |= _settings_of(sandbox)
            bind = environ.get("CREDIT_BIND") or "127.0.0.1:3000"
            print(_BANNER.format(bind=bind, data=data), flush=True)
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "scripts/gunicorn_conf.py"]
        serving.append(_start(gunicorn, env=environ, cwd=root))
        status = serving[0].wait()
    finally:
        if sandbox is not None:  # last: a login in flight may still ask it
            sandbox.terminate()
            sandbox.wait()
    # Stopped by Ctrl-C or SIGTERM is what was asked for.
    sys.exit(0 if status in (0, -signal.SIGINT, -signal.SIGTERM) else status)


def _start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """A process that hears of Ctrl-C from us only, and ends when we do, even by `kill -9`."""
    libc = ctypes.CDLL(None)
    return subprocess.Popen(
        command,
        start_new_session=True,
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
        **options,
    )


def _settings_of(sandbox: subprocess.Popen[bytes]) -> dict[str, str]:
    """What makes the service speak to the sandbox, once it says where it listens."""
    address = sandbox.stdout.readline().decode().strip() if sandbox.stdout else ""
    if not address:
        # Empty, it would mean the real WeChat.
        sys.exit("the sandbox did not start")
    return {
        "WECHAT_APPID": sandbox_wechat.APPID,
        "WECHAT_SECRET": sandbox_wechat.SECRET,
        "WECHAT_API": address,
    }


if __name__ == "__main__":
    main()
