"""`tuneyard providers …`: accounts and what they offer, their slots, and the jobs there that nobody looks after."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app.cli import context, output
from queue_app.errors import TuneyardError
from queue_app.lifecycle import FINAL
from tasks.commands.accounts import differences, listing, remote
from tasks.commands.accounts.endings import endings
from tasks.commands.accounts.known import all_known, find_account, find_known
from tasks.commands.accounts.pools import pools_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import BaseModel

    from queue_app.store import Account
    from settings import ProviderSettings
    from tasks.commands.accounts.known import Known

app = typer.Typer(
    name="providers",
    help="Accounts at hosted providers: what they offer, their slots, their jobs.",
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="An account of the settings.")]
AnyName = Annotated[str | None, typer.Argument(metavar="[NAME]", help="One account; default: all with a key.")]
RemoteId = Annotated[str, typer.Argument(metavar="REMOTE_ID", help="The provider's id of the job.")]


@app.command("ls")
def list_providers(as_json: output.AsJson = False) -> None:
    """List the accounts of the settings and the providers of the catalogue, with closing dates and slots."""
    settings, accounts = context.settings(), {account.name: account for account in context.store().accounts.ls()}
    rows = [_row(known, accounts.get(known.name)) for known in all_known(settings)]
    if as_json:
        output.write_json(rows)
        return
    columns = ["NAME", "AT", "KEY", "SLOTS", "NEW JOBS UNTIL", "MODELS ANSWER UNTIL", "STANDS"]
    output.table(columns, [[str(value) for value in list(row.values())[: len(columns)]] for row in rows], wrap=True)
    for row in rows:
        if row["why"]:
            output.write(f"{row['name']}: {row['why']}")
    output.next_commands(f"tuneyard providers show {rows[-1]['name']}", "tuneyard providers slots")


def _row(known: Known, account: Account | None) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    own = known.is_own_server or not known.api
    stands, why = ("wrong", known.fault) if known.fault else _stands(account)
    limit = known.limit("jobs_at_once") if known.api else None
    by_model = " a model" if known.listing is not None and known.listing.slots == "model" and not own else ""
    used = context.store().slots.held_at(known.name)
    return {
        "name": known.name,
        "at": f"{known.api}'s API" if known.is_own_server else known.api or "?",
        "key": "yes" if known.has_key else "no",
        "slots": f"{used}/{'unknown' if limit is None else limit}{by_model}",
        "new_jobs": "–" if own else endings(known.catalogue, known.api, "training", today),
        "models_answer": "–" if own else endings(known.catalogue, known.api, "inference", today),
        "stands": stands,
        "why": why,
    }


def _stands(account: Account | None) -> tuple[str, str]:
    """In a word, and why."""
    if account is None:
        return "–", ""
    if account.is_paused:
        resume = f"`tuneyard providers resume {account.name}`"
        until = f"{account.paused_until:%m-%d %H:%M} UTC" if account.paused_until else resume
        return "paused", f"left alone until {until}: {account.paused_why}"
    return ("silent", f"owes {account.failures} answers in a row") if account.failures else ("answers", "")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An account, or a provider.")],
    as_json: output.AsJson = False,
) -> None:
    """Show the models, prices, limits and dates of a provider, each with its source."""
    known = find_known(context.settings(), name)
    of = "" if known.is_own_server else known.api  # of a server of the user's own the catalogue knows nothing
    models, limits = known.catalogue.models_of(of), listing.limits_of(known)
    figures = [row for row in known.catalogue.figures if row.provider == of]
    closings = [row for row in known.catalogue.closings if row.provider == of]
    if as_json:
        rows: dict[str, Sequence[BaseModel]] = {"models": models, "closings": closings}
        rows |= {"figures": figures, "limits": limits}
        told = {kind: [output.as_dict(row) for row in listed] for kind, listed in rows.items()}
        output.write_json(
            {"name": known.name, "at": known.api, "key": known.has_key, **told, "unknown": listing.gaps(known)}
        )
        return
    listing.show_head(known)
    if models:
        output.write("")
        columns = ["METHODS", "WEIGHTS", "ANSWERS UNTIL", "MODEL"]
        output.table(columns, [listing.model_row(known, model) for model in models], wrap=True)
        output.console().print("by " + "; ".join(listing.sources(models)))
    if closings:
        output.write("")
    for row in closings:
        output.console().print(
            f"{', '.join(row.models) if row.models != ('*',) else 'all models'}: {listing.closing_words(row)}"
        )
    output.write("")
    output.table(
        ["FIGURE", "OF", "VALUE", "SOURCE"],
        [*map(listing.figure_row, figures), *listing.own_rows(known), *listing.unknown_rows(known)],
        wrap=True,
    )
    if limits:
        output.write("")
        output.table(["LIMIT", "TARGET", "VALUE", "SOURCE"], [listing.limit_row(row) for row in limits], wrap=True)


@app.command()
def slots(name: AnyName = None, as_json: output.AsJson = False) -> None:
    """Show the slots of each pool: used, free, waited for, and taken by jobs that are not ours."""
    rows = [row for known, account in _with_key(name) for row in pools_of(context.store(), known, account)]
    if as_json:
        output.write_json([asdict(row) for row in rows])
        return
    columns = ["POOL", "SIZE", "USED", "FREE", "WAITING", "BELIEVED", "FOREIGN"]
    shown = [[_shown(value) for value in list(asdict(row).values())[: len(columns)]] for row in rows]
    output.table(columns, shown, wrap=True)
    for row in rows:
        for words in filter(None, (f"limited by {row.limited_by}", row.note)):
            output.console().print(f"{row.pool}: {words}")
    output.next_commands("tuneyard jobs ls --state waiting")


def _shown(value: Any) -> str:
    return "unknown" if value is None else str(value)


def _with_key(name: str | None) -> list[tuple[Known, ProviderSettings]]:
    """The account called so, or every one with a key."""
    settings = context.settings()
    if name is not None:
        return [find_account(settings, name)]
    return [(known, known.account) for known in all_known(settings) if known.account and known.has_key and known.api]


def _each(name: str | None, ask: Callable[[Known, ProviderSettings], Any]) -> tuple[list[Any], int]:
    """What asking each account gave, and how many did not answer; those are complained of."""
    found, silent = [], 0
    for known, account in _with_key(name):
        try:
            found.append(ask(known, account))
        except TuneyardError as error:
            output.complain(str(error))
            silent += 1
    return found, silent


@app.command()
def orphans(name: AnyName = None, as_json: output.AsJson = False) -> None:
    """List the remote jobs that carry a key of ours and that no job looks after, with what to do about each."""

    def ask(known: Known, account: ProviderSettings) -> list[tuple[str, remote.Orphan]]:
        return [(known.name, orphan) for orphan in remote.orphans(context.store(), known.name, account)]

    found, silent = _each(name, ask)
    rows = [row for rows in found for row in rows]
    if as_json:
        told = [(at, orphan, {"remote_job": orphan.remote.id, "key": orphan.remote.key}) for at, orphan in rows]
        output.write_json([ids | {"account": at, "state": o.remote.state, "why": o.why} for at, o, ids in told])
    elif rows:
        lines = [[at, orphan.remote.id, orphan.remote.state, orphan.why] for at, orphan in rows]
        output.table(["ACCOUNT", "REMOTE JOB", "STATE", "WHY"], lines, wrap=True)
        for at, orphan in rows:
            if orphan.left_by is not None:
                output.next_commands(f"tuneyard jobs retry {orphan.left_by}")
            verb = "adopt" if orphan.job is not None and orphan.has is None else "cancel"
            output.next_commands(f"tuneyard providers {verb} {at} {orphan.remote.id}")
    else:
        where = f"at the {len(found)} accounts that answered" if silent else "anywhere"
        output.hint(f"no orphans {where}: every remote job with a key of ours has its job")
    if silent:
        raise typer.Exit(1)


@app.command()
def adopt(name: Name, remote_id: RemoteId) -> None:
    """Let the job whose key a remote job carries look after it, if that job has none."""
    known, account = find_account(context.settings(), name)
    job = remote.adopt(context.store(), known.name, account, remote_id)
    output.write(f"{job.id}  {job.state}, looks after {remote_id}")
    output.next_commands(f"tuneyard jobs {'retry' if job.state in FINAL else 'watch'} {job.id}")


@app.command()
def cancel(name: Name, remote_id: RemoteId) -> None:
    """Stop a remote job of ours that no job looks after."""
    known, account = find_account(context.settings(), name)
    state = remote.cancel(context.store(), known.name, account, remote_id)
    output.write(f"{remote_id}  {state}")


@app.command()
def resume(name: Name, as_json: output.AsJson = False) -> None:
    """Ask an account again at once that is left alone, with the jobs that wait for it."""
    known = find_known(context.settings(), name)
    woken = context.store().accounts.resume(known.name)
    if as_json:
        output.write_json({"account": known.name, "jobs": woken})
    else:
        output.write(f"{known.name} is asked again; {woken} jobs waited for it")


@app.command()
def refresh(name: AnyName = None, as_json: output.AsJson = False) -> None:
    """Show where a provider's API tells otherwise than the catalogue, and keep the limits of jobs that it tells."""
    found, silent = _each(name, differences.refresh)
    if as_json:
        output.write_json([asdict(each) for each in found])
    else:
        _show_differences(found)
    if silent:
        raise typer.Exit(1)


def _show_differences(found: list[Any]) -> None:
    rows = [difference for each in found for difference in each.differences]
    if rows:
        columns = ["ACCOUNT", "MODEL", "WHAT", "CATALOGUE", "TOLD"]
        output.table(columns, [list(asdict(row).values()) for row in rows], wrap=True)
    differ = {(each.at, row.model) for each in found for row in each.differences}
    agreed = {(each.at, model) for each in found for model in each.agreed} - differ  # two accounts may be at one place
    more = list(dict.fromkeys(model for each in found for model in each.more))
    output.hint(f"{len(agreed)} models are as the catalogue says, {len(differ)} are not")
    if limits := sum(each.limits for each in found):
        output.hint(f"{limits} limits of jobs are kept; they hold where neither the settings nor the catalogue has one")
    if more:
        named = ", ".join(more[:5]) + (", …" if len(more) > 5 else "")
        output.hint(f"{len(more)} more are offered, not all of them to be tuned: {named} (--json names all)")
    if rows:
        output.hint("a row in the file of TUNEYARD_CATALOGUE changes what it says; limits can be set for the account")
