"""What the steps of a preparation are told of a campaign, and what its source turned out to be.

Not here: the form that people fill in (flows.campaign), and the steps (tasks.preparation).
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from adapters.sources import Audience
from data.rules import Windows
from tasks import audience
from tasks.composition import Template
from tasks.purpose import raised, with_opt_out
from tasks.routing import Route


@dataclass(frozen=True)
class Brief:
    """What the steps need to know of a campaign."""

    run_id: str
    audience: Audience
    message: str
    purpose: str
    route: Route
    not_after: datetime | None = None
    max_invalid_share: float = 0.5
    replace_typography: bool = True
    basis: str = ""
    """What a yes of the audience rests on; empty: the usual one of the purpose."""
    window: Windows | None = None
    """The campaign's own hours."""
    subject: str = ""
    """What it is about, for caps on how often somebody hears of one subject."""
    content: tuple[str, ...] = ()
    """Kinds of content that its author named."""
    opt_out_text: str = ""
    """Put behind a marketing message that does not say how to opt out."""

    @cached_property
    def raised(self) -> tuple[str, str]:
        """The purpose in force, and why it is another than the campaign's own (else empty)."""
        return raised(self.purpose, self.message, self.content)

    @cached_property
    def text(self) -> str:
        """The message as it goes out, a template still."""
        is_marketing = self.raised[0] == "marketing"
        return with_opt_out(self.message, self.opt_out_text) if is_marketing else self.message


@dataclass
class Pulled:
    """What was read: the records, and what the reader and the column mapping noticed."""

    records: int
    columns: list[str]
    mapped: audience.Mapped
    template: Template
    notes: list[str] = field(default_factory=list)
