"""Commands on who may come in: tokens, an address that logs in once, and the audit log."""

from typing import Annotated

import typer
from rich.table import Table

from app.commands.console import (
    Json,
    cell,
    out,
    print_json,
    reading_lab,
    say,
    with_flags,
    writing_lab,
)
from app.settings import Settings
from trainer.part import Refused

app = typer.Typer(help="List, make and revoke tokens.")

Name = Annotated[str, typer.Argument(help="Who uses it.")]


@app.command()
def make(
    name: Name,
    role: Annotated[str, typer.Option(help="viewer, editor or owner.")] = "editor",
    as_json: Json = False,
) -> None:
    """Make a token and print it, this once."""
    from app.access import tokens
    from app.access.roles import Role

    if role not in set(Role):
        raise Refused(f"there is no role {role!r}; there are {', '.join(Role)}")
    with writing_lab(Settings()) as connection:
        secret = tokens.make(connection, name, Role(role))
    if as_json:
        print_json({"name": name, "role": role, "token": secret})
        return
    # alone on a line of its own, for whoever copies or pipes it
    say(secret)


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: Json = False) -> None:
    """List who has a token, and when it was last used; or, with a command, make or revoke one."""
    if context.invoked_subcommand is not None:
        return
    from app.access import tokens

    with reading_lab(Settings()) as connection:
        found = [dict(row._mapping) for row in tokens.listed(connection)]
    if as_json:
        print_json(found)
        return
    table = Table("token", "who", "role", "how", "made", "last used", box=None, header_style="dim")
    for token in found:
        used = "never" if token["used_at"] is None else moment(token["used_at"])
        how = "browser" if token["kind"] == "browser" else "token"
        named = cell(token["name"])
        table.add_row(str(token["id"]), named, token["role"], how, moment(token["made_at"]), used)
    out.print(table)


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="Name of a token, or number of any in the list.")],
) -> None:
    """Take a token back, and log out every browser that used it."""
    from app.access import tokens

    with writing_lab(Settings()) as connection:
        number = int(name) if name.isdecimal() else tokens.number_of(connection, name)
        revoked = tokens.revoke(connection, number)
    say(f"{revoked.name} has no {'browser' if revoked.kind == 'browser' else 'token'} any more")


def login(
    host: Annotated[str | None, typer.Option(help="Of the server.")] = None,
    port: Annotated[int | None, typer.Option(help="Of the server.")] = None,
) -> None:
    """Print an address that logs one browser in as the owner, once, within a day."""
    say(login_address(with_flags(host=host, port=port)))


def audit(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 50,
    who: Annotated[str, typer.Option(help="Only what somebody of this name did.")] = "",
    as_json: Json = False,
) -> None:
    """Print who changed, or tried to change, what through the server."""
    from app.access.audit import lines

    with reading_lab(Settings()) as connection:
        found = [dict(row._mapping) for row in lines(connection, limit, who=who)]
    if as_json:
        print_json(found)
        return
    table = Table("when", "who", "role", "from", "what", "answer", box=None, header_style="dim")
    for line in found:
        what = f"{line['method']} {line['path']}"
        said = (line["who"], line["role"], line["address"], what, line["status"])
        table.add_row(moment(line["at"]), *map(cell, said))
    out.print(table)


def address(settings: Settings) -> str:
    """Where a browser on this machine finds the server."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def login_address(settings: Settings) -> str:
    """The same with a code that logs in as the owner, once."""
    from app.access import tokens

    with writing_lab(settings) as connection:
        return f"{address(settings)}/login?code={tokens.make_once(connection)}"


def moment(at: float) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
