"""The campaign as people describe it: the fields of the form in the UI and of `FILE.yaml`."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from adapters.blocks import SmsGateway, documents, load
from adapters.gateways.route import RouteSettings
from adapters.sources import Audience
from data.errors import SmsError
from data.rules import rules
from data.tables import CampaignRun
from tasks.hours import parse_hours
from tasks.preparation import Brief
from tasks.purpose import PROMOTIONAL, raised
from tasks.routing import Route, resolve, route_of

Purpose = Literal["marketing", "transactional", "alert", "otp", "emergency"]
Basis = Literal[
    "express_written",
    "express",
    "soft_opt_in",
    "inferred",
    "deemed",
    "implied_purchase",
    "implied_inquiry",
]
"""On what a yes of an audience may rest. What a register or an operator says is in the ledger."""


class CampaignError(SmsError):
    """A campaign file that cannot be read, or says something that cannot be meant."""


def _none_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _audience_form() -> dict[str, Any]:
    """The fields of all kinds of audience in one list, which is what the form is made of.

    Of a union the form makes tabs, and in Prefect 3.8 it stays on the first, whichever is chosen.
    """
    schema = TypeAdapter(Audience).json_schema()
    models = schema["$defs"]
    kinds = [models[kind["$ref"].rpartition("/")[2]]["properties"] for kind in schema["oneOf"]]
    columns = models["ColumnMapping"]
    texts = {name: field for kind in kinds for name, field in kind.items() if name != "columns"}
    return {
        "type": "object",
        "properties": {
            "kind": {
                "title": "Kind",
                "description": "A file, or a connection that an operator has set up.",
                "type": "string",
                "enum": [kind["kind"]["const"] for kind in kinds],
                "default": "csv",
            },
            "path": _text(texts.pop("path"), "For csv and parquet: a file in an audience folder."),
            "connection": _text(texts.pop("connection"), "For sql and http: the connection."),
            "columns": {
                "title": "Columns",
                "description": columns["description"],
                "type": "object",
                "properties": {name: _text(field) for name, field in columns["properties"].items()},
            },
            **{name: _text(field) for name, field in texts.items() if name != "kind"},
        },
        "if": {"properties": {"kind": {"enum": ["sql", "http"]}}, "required": ["kind"]},
        "then": {"properties": {"connection": {"minLength": 1}}, "required": ["connection"]},
        "else": {"properties": {"path": {"minLength": 1}}, "required": ["path"]},
    }


def _text(field: dict[str, Any], description: str = "") -> dict[str, Any]:
    """A field for text that may stay empty. Of text or nothing the form makes two buttons."""
    return {
        "title": field["title"],
        "description": description or field["description"],
        "type": "string",
        "default": "",
    }


def _without_default(schema: dict[str, Any]) -> None:
    del schema["default"]


class Campaign(BaseModel):
    """One SMS campaign."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200, description="What you call this campaign.")
    key: str = Field(
        "",
        max_length=200,
        description="Sent once under this key; a second start is refused. Default: the name, and"
        " the slot of a scheduled run.",
    )
    purpose: Purpose = Field(
        "marketing", description="Decides which consent is needed and at which hours it may go out."
    )
    audience: Annotated[Audience, WithJsonSchema(_audience_form())] = Field(
        description="Who gets it."
    )
    message: str = Field(
        min_length=1,
        description="The text. {{ first_name | default('there') }} puts in a column of the"
        " audience; without a default, people without a value get no message.",
        json_schema_extra={"format": "textarea"},
    )
    # Without a title the form shows the name of the block's class.
    gateway: SmsGateway = Field(
        title="Gateway", description="The gateway, or the route, that sends it."
    )
    sender: str = Field("", description="Number or name it comes from. Default: the gateway's own.")
    basis: Basis = Field(
        "express_written",
        description="Marketing: what a yes in the opt-in column rests on. express_written: they"
        " agreed in writing, on a form or by SMS; soft_opt_in: they bought something like it and"
        " could have said no.",
    )
    hours: str = Field(
        "",
        description="Only within these hours on the recipient's clock, such as 09:00-18:00 or"
        " mon-fri 09:00-18:00, sat 10:00-14:00. They narrow the hours of the rules. Empty: those"
        " alone.",
    )
    subject: str = Field(
        "",
        max_length=200,
        description="What it is about: some places limit how often a person hears of one subject."
        " Default: the name.",
    )
    content: list[str] = Field(
        default_factory=list,
        description="What it advertises, where places have rules on that: alcohol, gambling and"
        " so on. promotional: it is marketing, whatever the purpose says.",
        json_schema_extra=lambda schema: schema.update(_content_form()),
    )
    opt_out_text: str = Field(
        "",
        max_length=200,
        description="Put behind a marketing message that does not say itself how to opt out, such"
        " as: Reply STOP to opt out. Empty: nothing is added.",
    )
    approval: bool = Field(
        True, description="Show the preview and wait for a person before anything is sent."
    )
    not_after: Annotated[
        datetime | None,
        BeforeValidator(_none_if_blank),
        WithJsonSchema({"type": "string", "format": "date-time"}),
    ] = Field(
        None,
        description="What has not been sent by then is not sent at all. Empty: no deadline.",
        json_schema_extra=_without_default,
    )
    max_invalid_share: float = Field(
        0.5, ge=0, le=1, description="Stop when more than this share of the rows is invalid."
    )
    replace_typography: bool = Field(
        True,
        description="Write typographic quotes, dashes and spaces in plain letters, which can halve"
        " the cost. Letters are never changed.",
    )

    @field_validator("hours")
    @classmethod
    def _readable_hours(cls, value: str) -> str:
        parse_hours(value)
        return value.strip()

    @field_validator("content")
    @classmethod
    def _known_content(cls, value: list[str]) -> list[str]:
        kinds = _kinds_of_content()
        if unknown := [kind for kind in value if kind not in kinds]:
            raise ValueError(f"there is no kind {unknown[0]!r}: use {', '.join(kinds)}")
        return value

    @field_validator("not_after")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        # The form sends the instant with its zone; a file without one means UTC.
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @property
    def gateway_name(self) -> str:
        """The name of the gateway's block."""
        name = self.gateway._block_document_name
        if name is None:
            raise CampaignError("gateway: name a saved gateway; `sms gateway list` shows them")
        return name

    @property
    def sender_in_force(self) -> str:
        """The campaign's sender, or the gateway's own; of a route each gateway has its own."""
        return self.sender or getattr(self.gateway.settings, "sender", "")

    def route_in_force(self) -> Route:
        """The gateways that may send it, from the saved route or gateway that it names.

        Raises `GatewayError` where the route names one that is not saved.
        """
        saved = {self.gateway_name: self.gateway.settings}
        if isinstance(self.gateway.settings, RouteSettings):
            saved |= {name: block.settings for name, block in documents(SmsGateway)}
        return resolve(self.gateway_name, saved, self.sender)

    def key_in_force(self, slot: datetime | None) -> str:
        """The key: as given, or from the name and the scheduled slot."""
        if self.key:
            return self.key
        # A name without a letter or digit has no slug; an empty key would be everybody's.
        slug = re.sub(r"\W+", "-", self.name.casefold()).strip("-") or self.name
        return slug if slot is None else f"{slug}@{slot:%Y-%m-%dT%H:%M:%SZ}"

    def stored(self) -> dict[str, Any]:
        """The campaign as the ledger keeps it: blocks by name, no secret."""
        fields = self.model_dump(mode="json", exclude={"gateway"})
        return {**fields, "gateway": self.gateway_name}


def brief_of(run: CampaignRun) -> Brief:
    """Return what the steps need, from a campaign as the ledger keeps it."""
    stored = _Stored(**run.parameters)
    purpose, _ = raised(stored.purpose, stored.message, stored.content)
    return Brief(
        run_id=run.id,
        route=route_of(run),
        audience=stored.audience,
        message=stored.message,
        purpose=stored.purpose,
        not_after=stored.not_after,
        max_invalid_share=stored.max_invalid_share,
        replace_typography=stored.replace_typography,
        # Of a service message the list itself says it: the number was given for that.
        basis=stored.basis if purpose == "marketing" else "",
        window=parse_hours(stored.hours),
        subject=stored.subject or run.name,
        content=stored.content,
        opt_out_text=stored.opt_out_text,
    )


class _Stored(BaseModel):
    """The stored fields that the steps read. Runs of earlier versions lack the last ones."""

    audience: Audience
    message: str
    purpose: str
    not_after: datetime | None
    max_invalid_share: float
    replace_typography: bool
    basis: str = "express_written"
    hours: str = ""
    subject: str = ""
    content: tuple[str, ...] = ()
    opt_out_text: str = ""


def _kinds_of_content() -> list[str]:
    """The kinds of content that some rule speaks of."""
    flags = {flag for row in rules().rows for flag in row.flags}
    return sorted({*flags, PROMOTIONAL} - {"*"})


def _content_form() -> dict[str, Any]:
    return {"items": {"type": "string", "enum": _kinds_of_content()}}


class _PlainYaml(yaml.SafeLoader):
    """YAML without its traps: `NO` is Norway, `10:00` a time, and a number stays as written.

    A field that stands there twice is refused: YAML itself would take the last one.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the field {key.value} stands there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_PlainYaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null",)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# Lists of (first letters, exact words): pydantic reads numbers and instants from text itself.
_PlainYaml.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), ["t", "f"]
)


def read_file(path: Path) -> Campaign:
    """Read a campaign file. Raises `CampaignError`, one line that names file and field."""
    try:
        fields = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_PlainYaml)  # noqa: S506
    except FileNotFoundError:
        raise CampaignError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CampaignError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or "not YAML"
        raise CampaignError(f"{path}{where}: {what}") from None
    if not isinstance(fields, dict):
        raise CampaignError(f"{path}: does not describe a campaign: write `name: …` and so on")
    if not isinstance(fields.get("gateway"), str):
        raise CampaignError(f"{path}: gateway: name one; `sms gateway list` shows them")
    _find_audience(fields, path.parent)
    return _validated(path, {**fields, "gateway": load(SmsGateway, fields["gateway"])})


def _find_audience(fields: dict[str, Any], beside: Path) -> None:
    """Let a relative audience path mean the campaign file's own folder, where it is not here."""
    source = fields.get("audience")
    if isinstance(source, dict) and isinstance(given := source.get("path"), str):
        here, there = Path(given), beside / given
        with suppress(OSError):  # too long for any file, which opening it will say
            source["path"] = str(there if not here.exists() and there.exists() else here)


def _validated(path: Path, fields: dict[str, Any]) -> Campaign:
    try:
        return Campaign.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = [
            str(part) for part in first["loc"] if part not in ("csv", "parquet", "sql", "http")
        ]
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"there is no such field: use {', '.join(Campaign.model_fields)}"
        raise CampaignError(f"{path}: {'.'.join(place)}: {message}") from None
