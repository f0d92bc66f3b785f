"""The command line: which commands there are, and where. Safe while the service runs."""

from importlib import import_module
from typing import Final

import click

# Each is imported when it is asked for: most need little of what all of them need, and so do the processes that
# an audit starts, which import this module again.
_COMMANDS: Final = {
    "audit": "audit.audit",
    "backup": "files.backup",
    "erase": "files.erase",
    "expire": "events.expire",
    "export": "files.export",
    "grant": "events.grant",
    "import": "files.import_",
    "key": "keys.key",
    "replay": "replay.replay",
    "restore": "files.restore",
    "seal": "seal.seal",
    "seals": "seal.seals",
    "statement": "events.statement",
    "totals": "totals.totals",
}


class _Commands(click.Group):
    """A group whose commands are in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, command = _COMMANDS[cmd_name].partition(".")
        found = getattr(import_module(f"scripts.credit_ledger_{module}"), command)
        return found if isinstance(found, click.Command) else None


@click.command(
    cls=_Commands,
    epilog="The data is in CREDIT_DATA (default: data in the checkout).",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def cli() -> None:
    """Audit, replay and read the credit ledger, and grant credit by hand. Safe while the service runs."""


def main() -> None:
    cli(prog_name="credit-ledger")


if __name__ == "__main__":
    main()
