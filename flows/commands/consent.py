"""`sms consent …`: commands on the consent ledger. Only `ask` needs Prefect: it knows gateways."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from data.errors import SmsError
from data.migrate import migrate
from flows import server

Number = Annotated[str, typer.Argument(help="A telephone number, such as +12015550123.")]
Country = Annotated[str, typer.Option(help="For a number without a country code, such as US.")]


class HistoryFormat(StrEnum):
    """Formats of one person's history."""

    json = "json"
    csv = "csv"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    consent = typer.Typer(help="The consent ledger.", no_args_is_help=True)
    consent.command("import")(import_consent)
    consent.command("explain")(explain_consent)
    consent.command("export")(export_history)
    consent.command("verify")(verify_chain)
    consent.command("forget")(forget_number)
    consent.command("ask")(ask_number)
    app.add_typer(consent, name="consent")


def import_consent(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: phone, type, occurred_at, …")],
    default_country: Annotated[
        str, typer.Option(help="For numbers without a country code, such as US.")
    ] = "",
) -> None:
    """Append a file of opt-ins, opt-outs and other consent events to the ledger.

    Types: opt_in, opt_out, opt_in_pending, relationship, registry_check, deactivated. A file never
    lifts an opt-out, and importing it twice changes nothing. Ends with status 1 where a record was
    rejected; the others are recorded.
    """
    import pandas as pd

    from adapters.sources import CsvAudience, ParquetAudience, open_source
    from tasks import consent_import

    migrate()
    kind = ParquetAudience if file.suffix.lower() == ".parquet" else CsvAudience
    source = open_source(kind(path=str(file)), folders=[file.resolve().parent])

    def reject(rejects: pd.DataFrame) -> None:
        for row, column, reason in rejects.itertuples(index=False):
            print(f"row {row}: {column or 'the whole record'}: {reason}")

    done = consent_import.import_consent(
        source.partitions(), default_country=default_country, name=file.name, reject=reject
    )
    print(f"{done.read:,} records read, {done.recorded:,} recorded, {done.rejected:,} rejected")
    if done.rejected:
        raise SmsError(
            f"{file.name}: {done.rejected:,} records were rejected and are not in the ledger; mend"
            " them as their lines say and import the file again"
        )


def export_history(
    number: Number,
    format: Annotated[HistoryFormat, typer.Option(help="json or csv.")] = HistoryFormat.json,
    default_country: Country = "",
) -> None:
    """Export all that is stored of one person.

    To standard output, nothing masked: consent events with their seals, messages, replies.
    """
    from data import forgetting

    migrate()
    told = forgetting.history(_e164(number, default_country))
    if format is HistoryFormat.json:
        print(json.dumps(told, default=_written, ensure_ascii=False, indent=1))
    else:
        sys.stdout.write(_as_csv(told))


def verify_chain() -> None:
    """Seal what was recorded since, and prove that nothing in the ledger was changed."""
    from data import consent_chain

    migrate()
    consent_chain.seal()
    found = consent_chain.verify()
    print(
        f"{found.sealed:,} consent events sealed, {found.unsealed:,} unsealed,"
        f" {found.erased:,} erased"
    )
    if not found.outside:
        print(
            f"{consent_chain.head_file()} is missing: were the newest events removed, nothing would"
            " show it; the next seal writes it"
        )
    if found.broken:
        raise SmsError(f"the consent ledger was changed: {found.broken}")
    print("nothing was changed")


def forget_number(
    number: Number,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    default_country: Country = "",
) -> None:
    """Erase one person's data, for good.

    Clears number, texts and evidence everywhere in the database and leaves an opt-out under the
    number's keyed fingerprint, so that no other list writes to it again.
    """
    from data import forgetting
    from data.privacy import mask

    migrate()
    e164 = _e164(number, default_country)
    if not yes:
        typer.confirm(f"Erase all that is stored of {mask(e164)}? Nobody can undo it", abort=True)
    done = forgetting.forget(e164)
    print(
        f"erased: {done.events:,} consent events, {done.messages:,} messages"
        f" ({done.suppressed:,} of them had not been sent and will not be), {done.replies:,}"
        f" replies, {done.reports:,} delivery reports, {done.exclusions:,} audience records"
    )
    if done.unreported:
        print(
            f"{done.unreported:,} messages wait for a report of their gateway, which will bring the"
            " number again: run this command again when they have it"
        )
    print(
        "not reached: backups, audience files and exports, what runs of before hold in their"
        " folder, the sandbox's journal, and what the gateways keep; erase it there"
    )


def ask_number(
    number: Number,
    *,
    gateway: Annotated[str, typer.Option(help="The gateway that asks.")],
    source: Annotated[str, typer.Option(help="Where the person gave the number.")],
    wording: Annotated[
        str, typer.Option(help="What they would get: Reply YES to get …")
    ] = "our messages",
    sender: Annotated[str, typer.Option(help="Default: the gateway's own.")] = "",
    default_country: Country = "",
) -> None:
    """Ask a person by SMS to say YES (double opt-in).

    Once, and nobody who has opted out. The receiver (`sms web`) sends it and takes the answer.
    """
    from tasks import answering

    migrate()
    e164 = _e164(number, default_country)
    with server.running():
        from adapters.blocks import SmsGateway, load

        saved = load(SmsGateway, gateway).settings
    if saved.kind == "route":
        raise SmsError(f"{gateway} is a route: name the gateway that the question is to come from")
    answering.ask(e164, gateway, wording, source, sender=sender or saved.sender)
    print("the question is on its way; a YES within seven days is recorded as written consent")


def explain_consent(
    number: Annotated[
        str, typer.Argument(help="A telephone number: what the ledger says of it.")
    ] = "",
    *,
    run: Annotated[str, typer.Option(help="What became of it in this run (id or key).")] = "",
    purpose: Annotated[str, typer.Option(help="What the message would be for.")] = "",
    at: Annotated[str, typer.Option(help="When, such as 2026-03-01T12:00:00Z; default: now.")] = "",
    file: Annotated[
        Path | None,
        typer.Option(help="Cases instead, one JSON object a line; - for stdin."),
    ] = None,
    default_country: Country = "",
) -> None:
    """Say whether a message may go to a number, by which rules and events, and why.

    With --file print the verdict on each case as a JSON line: send, defer or block.
    """
    if file is not None and number:
        raise typer.BadParameter("give a number or --file, not both")
    if file is not None:
        _explain_cases(file)
    elif number:
        _explain_number(number, run, purpose, at, default_country)
    else:
        raise typer.BadParameter("give a number, or --file with cases")


def _explain_number(number: str, run: str, purpose: str, at: str, country: str) -> None:
    from data import runs
    from data.database import now
    from tasks.consent_numbers import explain_number

    migrate()
    found = runs.find_run(run) if run else None
    told = explain_number(
        _e164(number, country),
        purpose=purpose or (found.purpose if found else "marketing"),
        at=_instant(at) if at else now(),
        run=found.id if found else None,
        country=country,
    )
    for line in _in_words(told):
        print(line)


def _in_words(told: dict[str, Any]) -> list[str]:
    until = f" until {told['defer_until']}" if told.get("defer_until") else ""
    lines = [f"verdict: {told['verdict']}{until} ({told['reason_code']})"]
    rules = told.get("rules") or []
    if rules and told["verdict"] != "send":
        # What decides is asked last.
        lines += [f"rule: {rules[-1]['id']}: {rules[-1]['says']}", f"source: {rules[-1]['source']}"]
    elif rules:
        lines.append("rules that were asked: " + ", ".join(rule["id"] for rule in rules))
    lines.append("consent events: " + (", ".join(map(str, told.get("events") or [])) or "none"))
    message = told.get("message")
    if isinstance(message, dict):
        facts = "; ".join(f"{name} {value}" for name, value in message.items() if value)
        lines.append("in this run: " + facts.replace("_", " "))
    elif message:
        lines.append(f"in this run: {message}")
    return lines


def _explain_cases(file: Path) -> None:
    import orjson

    from data.rules import rules
    from tasks import consent_cases

    # What is wrong with the rules is wrong with no case.
    _ = rules().rows
    try:
        lines = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise SmsError(f"{file}: cannot be read: {error.strerror}; name a file of cases") from None
    failed = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        case: Any = None
        try:
            case = orjson.loads(line)
            told = orjson.dumps(consent_cases.explain(case))
        except (orjson.JSONDecodeError, SmsError) as error:
            # The other cases still want their verdicts; each output line answers one input line.
            told = orjson.dumps(consent_cases.unreadable(case, f"line {number}: {error}"))
            failed = True
        print(told.decode())
    if failed:
        raise SmsError(f"{file}: some cases could not be judged; their lines say why")


def _e164(number: str, country: str) -> str:
    import pandas as pd

    from tasks import phones

    # A fixed line, or one that is not given out any more, may have a history too.
    found = str(phones.normalise(pd.Series([number], dtype="str"), country)["e164"].fillna("")[0])
    if not found:
        raise SmsError(
            "this is no telephone number: write it as +12015550123, or give --default-country"
        )
    return found


def _instant(at: str) -> Any:
    from datetime import UTC, datetime

    try:
        instant = datetime.fromisoformat(at)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise SmsError(f"--at {at} is no instant: write it as 2026-03-01T12:00:00Z")
    return instant.astimezone(UTC)


def _written(value: Any) -> str:
    return str(value.isoformat().replace("+00:00", "Z") if hasattr(value, "isoformat") else value)


def _as_csv(told: dict[str, list[dict[str, Any]]]) -> str:
    """One table, a row for each event, message and reply; the kind of record comes first."""
    import pandas as pd

    rows = [
        {"record": record.removesuffix("s")} | {name: _cell(value) for name, value in row.items()}
        for record, some in told.items()
        for row in some
    ]
    table = pd.DataFrame(rows, columns=None if rows else pd.Index(["record"]))
    return str(table.to_csv(index=False, lineterminator="\n"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value, sort_keys=True) if isinstance(value, dict) else _written(value)
    is_number = text.startswith("+") and text[1:].isdigit()
    # A spreadsheet would take it for a formula (OWASP, CSV injection).
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number else text
