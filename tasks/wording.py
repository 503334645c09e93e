"""Outcomes, reason codes and shares in words, and sample texts without what they say of a person.

Here: what a code means to a marketer. Not here: laying it out (reporting), colours (plots), and
the rules behind some of the reasons, which say themselves what they do (data/rules).
"""

import json
import re
from collections.abc import Iterator
from functools import cache

from jinja2 import nodes

from tasks.message_language import parse
from tasks.segments import smart_replace
from tasks.validation import SUITE

OUTCOMES = {
    "delivered": "The phone has it",
    "pending": "With the gateway, or on its way there",
    "deferred": "Waits for the recipient's hours",
    "in_doubt": "The gateway gave no clear answer: not sent again",
    "undelivered": "The network could not deliver it",
    "failed": "The gateway could not send it",
    "rejected": "The gateway refused it",
    "expired": "No final report came in time",
    "blocked": "A rule forbids it",
    "suppressed": "The recipient opted out",
    "held_out": "Kept back on purpose, to compare with",
    "cancelled": "The campaign ended before its turn",
    "duplicate": "The number is in the audience already",
    "invalid": "The row cannot be used",
}
"""Every outcome and what it means, from good to unusable."""

_REASONS = {
    # the source's reader
    "ragged_row": "The row has more or fewer cells than the header",
    "blank_row": "The row is empty",
    "nul_byte": "The row holds a NUL byte, as broken exports do",
    "field_too_long": "A cell is longer than anything a person writes",
    "undecodable_text": "Text in the row cannot be decoded",
    "not_an_object": "The record is no JSON object",
    # numbers, duplicates, consent
    "invalid_number": "No valid number of its country",
    "same_number": "An earlier row has the same number",
    "line_type": "The line cannot receive an SMS",
    "reassigned": "The number has another owner since the opt-in",
    "deactivated": "The number was given up since the opt-in",
    "moratorium": "Nothing may be sent there at this time",
    "opted_out": "Opted out, says the consent ledger",
    "audience_opt_out": "The audience itself says no",
    "reply_review": "A reply that may be an opt-out waits for a person",
    "unknown_country": "No rules are known for this country",
    "unknown_subdivision": "The state or province is unknown, and its rules with it",
    "no_consent": "No opt-in of a kind that is enough there",
    "consent_expired": "The opt-in has run out",
    "registry_listed": "On a do-not-contact register",
    "opt_out_text": "The message does not say how to opt out, as it must there",
    "content_prohibited": "This kind of content may not be sent there",
    "age_gate": "Nobody has verified the recipient's age",
    "registration_required": "This kind of content needs a registration there",
    "sender_id": "The sender is not of the kind that is allowed there",
    "confirmation_already_sent": "The opt-out has been confirmed already",
    "confirmation_too_late": "Too late to confirm the opt-out",
    "nothing_to_confirm": "There is no opt-out to confirm",
    "frequency_cap": "Has got as many messages as are allowed for now",
    "zone_unknown": "The recipient's time zone is unknown",
    "quiet_hours": "Outside the recipient's hours",
    "day_not_allowed": "Not on this day of the week, or a public holiday there",
    "campaign_window": "Outside the campaign's own hours",
    "no_common_window": "No hour is right in every zone the number may be in",
    "deadline": "The campaign's deadline comes first",
    "no_gateway": "No rule of the route names the recipient's country",
    # composition
    "text_too_long": "The text is too long for an SMS",
    "empty_text": "The text is empty",
    # sending and reports
    "queued": "Waits for its turn, or for the gateway's report",
    "sending": "On its way to the gateway",
    "accepted": "The gateway took it; no report yet",
    "sent": "Handed to the network; no final report yet",
    "unknown": "The gateway does not know yet",
    "delivered": "The phone has it",
    "undelivered": "The network could not deliver it; no code was given",
    "failed": "The gateway could not send it; no code was given",
    "rejected": "The gateway refused it; no code was given",
    "expired": "The gateway gave up",
    "no_report": "No final report came in time",
    "no_clear_answer": "The gateway did not answer clearly",
    "sender_died": "The sending process ended before the answer came",
    "restored": "May have been sent after the backup that this was restored from",
    "run_cancelled": "The campaign was ended",
    "gateway_refused": "The gateway refused it; no code was given",
    "gateway_opted_out": "Opted out, says the gateway",
    "gateway_not_started": "Not started in time; waits to be tried again",
    "gateway_refused_together": "Refused along with others; waits to be tried again",
    "gateway_unreachable": "The gateway could not be reached; waits to be tried again",
}


def name(outcome: str) -> str:
    """Return an outcome as people read it: `in doubt`."""
    return outcome.replace("_", " ")


def reason(code: str, outcome: str = "") -> str:
    """Return a reason code in words; one that nobody put into words comes back as it is.

    A gateway's own error code is given as the gateway gives it. Of an invalid record the words of
    the validation come first: its reasons may be called like those of a rule.
    """
    first, second = (_suite(), _REASONS) if outcome == "invalid" else (_REASONS, _suite())
    if words := first.get(code) or second.get(code):
        return words
    kind, _, detail = code.partition(":")
    if kind == "missing_value":
        return f"The message needs {detail}, which this row lacks"
    if code.startswith("gateway_"):
        return f"The gateway's error {code.removeprefix('gateway_')}"
    return code


def share(part: int, whole: int) -> str:
    """Return a share in percent; some of it is never 0 %, and not all of it never 100 %."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.05:
        return "< 0.1 %"
    if part < whole and percent >= 99.95:
        return "> 99.9 %"
    return f"{percent:.1f} %"


@cache
def _suite() -> dict[str, str]:
    """The reasons of the expectation suite, which brings its own words."""
    entries = json.loads(SUITE.read_text(encoding="utf-8"))["expectations"]
    return {entry["meta"]["reason"]: entry["meta"]["words"] for entry in entries}


# ------------------------------------------------------------------ sample texts

_HIDDEN = "•••"
# Not \w+: a vowel sign of Hindi or Thai is no word character and would end its word.
_WORD = re.compile(r"[^\s.,;:!?()\"“”„«»]+")


class SampleText:
    """Shows texts of a message as they will read, with only the first letter of personal words.

    What stands in the message as written is shown. Where a column, filter or condition wrote, a
    word is shown only if that very part of the message holds it (`default('there')`); of any
    other the first letter stays, and of what begins with a digit or a sign nothing.
    """

    def __init__(self, source: str) -> None:
        self._fixed: list[str] = []
        # Before, between and after the fixed parts: the words of the message that may stand
        # there; None where nothing is written in between.
        self._gaps: list[set[str] | None] = [None]
        for part in _parts(parse(source)):
            if isinstance(part, nodes.TemplateData):
                self._fixed.append(part.data)
                self._gaps.append(None)
            else:
                self._gaps[-1] = (self._gaps[-1] or set()).union(_words(part))

    def mask(self, text: str) -> str:
        """Return the text as it may be shown."""
        for fixed in (self._fixed, [smart_replace(part) for part in self._fixed]):
            written = self._align(text, fixed)
            if written is not None:
                shown = [
                    _masked(gap, words or set())
                    for gap, words in zip(written, self._gaps, strict=True)
                ]
                return "".join(a + b for a, b in zip(shown, [*fixed, ""], strict=True))
        # Not a text of this message: nothing of it is known to be fixed.
        return _masked(text, set())

    def _align(self, text: str, fixed: list[str]) -> list[str] | None:
        """Return what stands in the gaps between the fixed parts; None where they do not fit.

        The first place that fits each part is right whenever any is, as with `*` in file names.
        """
        written: list[str] = []
        begin = 0
        for number, part in enumerate(fixed):
            is_last = number == len(fixed) - 1 and self._gaps[-1] is None
            at = len(text) - len(part) if is_last else text.find(part, begin)
            is_closed = self._gaps[number] is None and at != begin
            if at < begin or is_closed or not text.startswith(part, at):
                return None
            written.append(text[begin:at])
            begin = at + len(part)
        return [*written, text[begin:]]


def _parts(tree: nodes.Template) -> Iterator[nodes.Node]:
    for node in tree.body:
        yield from node.nodes if isinstance(node, nodes.Output) else [node]


def _words(part: nodes.Node) -> set[str]:
    """The words that a dynamic part of a message holds: texts of conditions, defaults."""
    texts = [data.data for data in part.find_all(nodes.TemplateData)]
    texts += [const.value for const in part.find_all(nodes.Const) if isinstance(const.value, str)]
    return {word for text in texts for word in _WORD.findall(smart_replace(text))}


def _masked(text: str, shown: set[str]) -> str:
    return _WORD.sub(lambda word: word[0] if word[0] in shown else _initial(word[0]), text)


def _initial(word: str) -> str:
    return (word[0] if word[0].isalpha() and len(word) > 1 else "") + _HIDDEN
