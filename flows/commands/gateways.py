"""Commands on gateways and audience sources: the Prefect blocks that operators set up."""

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from data.errors import SmsError
from flows import server

Name = Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.")]
Fields = Annotated[
    list[str] | None, typer.Option("--set", help="field=value; repeat for every field.")
]


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    gateway = typer.Typer(help="SMS gateways.", no_args_is_help=True)
    gateway.command("add")(add_gateway)
    gateway.command("list")(list_gateways)
    gateway.command("check")(check_gateway)
    gateway.command("fields")(list_fields)
    app.add_typer(gateway, name="gateway")
    source = typer.Typer(help="Databases and web APIs for audiences.", no_args_is_help=True)
    source.command("add")(add_source)
    source.command("list")(list_sources)
    app.add_typer(source, name="source")


def add_gateway(
    name: Name,
    type: Annotated[str, typer.Argument(help="Kind of gateway, such as twilio; or route.")],
    set: Fields = None,
) -> None:
    """Save a gateway under a name, or replace it."""
    settings = _built(_kind(type), _fields(set), f"sms gateway add {name} {type}")
    with server.running():
        from adapters.blocks import SmsGateway

        _save(SmsGateway, name, settings)
    print(f"{'route' if type == 'route' else 'gateway'} {name} saved; ", end="")
    print(f"`sms gateway check {name}` tries it without sending")
    if type != "route" and (address := _inbound_url(name, settings)):
        print(f"for replies, enter this address at the gateway: {address}")


def _inbound_url(name: str, saved: Any) -> str:
    from adapters.gateways import make_gateway
    from adapters.gateways.base import Timeouts
    from data.settings import settings

    url = settings().receiver_url
    made = make_gateway(name, saved, receiver_url=url, timeouts=Timeouts())
    return made.inbound_url if made.capabilities.inbound else ""


def list_fields(
    type: Annotated[str, typer.Argument(help="Kind of gateway, such as twilio; or route.")],
) -> None:
    """List the fields of a kind of gateway: needed or its default, and what it means."""
    fields = _kind(type).model_fields
    for name, field in sorted(fields.items(), key=lambda item: not item[1].is_required()):
        if name != "kind":
            default = "" if field.default in ("", None) else f"default {field.default}"
            needed = "needed" if field.is_required() else default or "may be empty"
            print(f"{name}\t{needed}\t{field.description}")


def _kind(type: str) -> Any:
    from adapters.gateways import KINDS
    from adapters.gateways.route import RouteSettings

    kind = {**KINDS, "route": RouteSettings}.get(type)
    if kind is None:
        raise SmsError(f"there is no kind of gateway “{type}”: use {', '.join(KINDS)} or route")
    return kind


def list_gateways() -> None:
    """List the gateways, without their secrets."""
    with server.running():
        from adapters.blocks import SmsGateway, documents

        for name, block in documents(SmsGateway):
            shown = block.settings
            if shown.kind == "route":
                print(f"{name}\troute\t{'; '.join(shown.rules.split(chr(10)))}")
                continue
            print(
                f"{name}\t{shown.kind}\t{shown.base_url}\tsender {shown.sender or '–'}"
                f"\t{shown.rate:g}/s"
            )


def check_gateway(
    name: Annotated[str, typer.Argument(help="A saved gateway.")],
    sender: Annotated[str, typer.Option(help="Default: the gateway's own.")] = "",
) -> None:
    """Verify credentials and sender without sending anything."""
    with server.running():
        from adapters.blocks import SmsGateway, documents, load
        from tasks.routing import resolve
        from tasks.steps import problems_of

        settings = load(SmsGateway, name).settings
        if settings.kind == "route":
            saved = {name: block.settings for name, block in documents(SmsGateway)}
            senders = resolve(name, saved, sender).senders
        else:
            senders = {name: sender or settings.sender}
        problems = [
            f"gateway {one}: {problem}"
            for one, wanted in senders.items()
            for problem in problems_of(one, wanted)
        ]
    if problems:
        raise SmsError("\n".join(problems))
    print(f"{'route' if settings.kind == 'route' else 'gateway'} {name} is ready")


def add_source(
    name: Name,
    type: Annotated[str, typer.Argument(help="sql or http.")],
    set: Fields = None,
) -> None:
    """Save a database query or a web API that audiences come from."""
    from adapters.sources import HttpConnection, SqlConnection

    kinds: dict[str, Any] = {"sql": SqlConnection, "http": HttpConnection}
    if type not in kinds:
        raise SmsError(f"there is no kind of source “{type}”: use sql or http")
    settings = _built(kinds[type], _fields(set), f"sms source add {name} {type}")
    with server.running():
        from adapters.blocks import SmsSource

        _save(SmsSource, name, settings)
    print(f"source {name} saved")


def list_sources() -> None:
    """List the audience sources, without their secrets."""
    with server.running():
        from adapters.blocks import SmsSource, documents

        for name, block in documents(SmsSource):
            print(f"{name}\t{block.settings.kind}")


def _fields(given: list[str] | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for item in given or []:
        field, separator, value = item.partition("=")
        if not separator:
            raise SmsError(f"--set {item}: write field=value")
        # `headers.Authorization=…` fills one entry of a table of headers.
        table, dot, entry = field.partition(".")
        if dot:
            fields.setdefault(table, {})[entry] = value
        else:
            fields[field] = value
    return fields


def _built(kind: Any, fields: dict[str, Any], command: str) -> Any:
    unknown = sorted(set(fields) - set(kind.model_fields))
    if unknown:
        known = ", ".join(name for name in kind.model_fields if name != "kind")
        raise SmsError(f"{command}: there is no field {unknown[0]}: use {known}")
    try:
        return kind(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise SmsError(f"{command}: {field}: {what}; set it by --set {field}=…") from None


def _save(block: Any, name: str, settings: Any) -> None:
    try:
        block(settings=settings).save(name, overwrite=True)
    except ValueError as error:
        raise SmsError(f"the name {name} cannot be used: {error}") from None
