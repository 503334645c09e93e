"""What follows from replies (MO): consent events, a person's review, and the one answer.

Policy, for many replies at a time. Not here: reading a reply (`replies`), the words of answers
(`answer_texts`), storing them (`data.standing_runs`) and sending them (`responding`).
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Connection, and_, or_, select

from data import consent_ledger, standing_runs
from data.database import clock, writing
from data.errors import SmsError
from data.identity import number_keys
from data.privacy import impersonal, mask
from data.rules import PURPOSES
from data.standing_runs import ToSend
from data.tables import ConsentEvent
from tasks import answer_texts, phones, replies
from tasks.replies import Reply
from tasks.segments import count_segments

CONFIRM_WITHIN = timedelta(minutes=5)
"""47 CFR 64.1200(a)(12): a confirmation sent so soon is taken for one that was agreed to."""
ANSWER_WITHIN = timedelta(hours=1)
ASK_WITHIN = timedelta(days=1)
PENDING = timedelta(days=7)
"""How long a YES answers the question."""

_QUESTION_SCOPE = "marketing"
_E164 = r"\+[1-9]\d{6,14}"
_EVENTS = ConsentEvent.__table__  # type: ignore[attr-defined]
_TOLD = (
    *("number_key", "type", "scope", "basis", "occurred_at", "method", "evidence"),
    *("wording_version", "text_hash"),
)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_log = logging.getLogger("sms.answering")


class AskError(SmsError):
    """A number cannot be asked whether it wants messages."""


# ------------------------------------------------------------------ replies


@dataclass
class _Known:
    """What is known of the senders, by number key, and what their replies add to it."""

    stopped: set[str]
    """Nothing may be sent to them: another STOP changes nothing."""
    mute: set[str]
    """No answer may be sent to them."""
    unasked: set[str]
    """They must not be asked whether they want messages."""
    questions: dict[str, dict[str, Any]]
    """The consent event of a question without an answer."""
    asked: Counter[str]
    """How many questions there have been."""
    bases: dict[str, str]
    """Of their last opt-in."""

    def is_asked(self, key: str, at: datetime) -> bool:
        """Whether a YES of this instant answers a question."""
        question = self.questions.get(key)
        return question is not None and at - PENDING < _when(question)


@dataclass
class _Made:
    """What replies make necessary."""

    events: list[dict[str, Any]] = field(default_factory=list)
    confirmations: list[ToSend] = field(default_factory=list)
    answers: list[ToSend] = field(default_factory=list)


def on_inbound(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Say what each reply is, and do what follows, in the transaction that stores them.

    `rows` have the keys of `InboundMessage`; kind, why, review and number_key are filled. Whoever
    calls keeps others from storing replies meanwhile, as `data.deliveries.unseen` does.
    """
    people = _people([row["sender"] for row in rows])
    known = _known(connection, sorted({key for key in people["number_key"] if key}))
    made = _Made()
    last: dict[str, datetime] = {}
    for row, e164, key, country in zip(
        rows, people["e164"], people["number_key"], people["region"], strict=True
    ):
        row.update(number_key=key, kind=replies.REVIEW, why="sender is no number", review="open")
        if not key:
            continue
        found = _read(row["text"], question_pending=known.is_asked(key, row["received_at"]))
        row.update(kind=found.kind, why=found.why, review="open" if found.review else "")
        if found.kind == replies.REVIEW:
            row["review"] = "open"
        # In their order, also where two came at one time: equal instants count as an opt-out.
        at = row["received_at"]
        if key in last:
            at = max(at, last[key] + timedelta(microseconds=1))
        last[key] = at
        _act(_Heard(row, e164, key, country or None, at), found, known, made)
    if made.events:
        consent_ledger.append(connection, pd.DataFrame(made.events))
    day = clock(connection).date()
    standing_runs.add(connection, standing_runs.CONFIRMATIONS, day, made.confirmations)
    standing_runs.add(connection, standing_runs.ANSWERS, day, made.answers)


def _people(senders: Sequence[str]) -> pd.DataFrame:
    """Columns e164, number_key, region; empty for what is no number: short codes and names."""
    written = pd.Series(senders, dtype="str").fillna("").str.strip()
    read = phones.normalise(written, "")
    # As numbers are planned, where it can be read; a STOP counts from numbers of no plan, too.
    e164 = read["e164"].where(read["valid"], written.where(written.str.fullmatch(_E164)))
    e164 = e164.fillna("").astype("str")
    keys = [key if number else "" for number, key in zip(e164, number_keys(e164), strict=True)]
    return pd.DataFrame(
        {"e164": e164, "number_key": keys, "region": read["region"].fillna("").astype("str")}
    )


def _read(text: str, *, question_pending: bool) -> Reply:
    try:
        return replies.classify(text, question_pending=question_pending)
    except Exception as error:  # noqa: BLE001 - a person can read what we cannot
        _log.error("a reply could not be read (%s): it waits for a person", type(error).__name__)
        return Reply(replies.REVIEW, "could not be read", True)


@dataclass(frozen=True)
class _Heard:
    """One reply."""

    row: dict[str, Any]
    e164: str
    key: str
    country: str | None
    at: datetime

    def event(self, type: str, **fields: Any) -> dict[str, Any]:
        """A consent event that rests on it."""
        evidence = {
            "reply": self.row["gateway_message_id"],
            "gateway": self.row["gateway"],
            "our_number": self.row["recipient"],
            "reply_hash": hashlib.sha256(self.row["text"].encode()).hexdigest(),
            "why": self.row["why"],
        } | fields.pop("evidence", {})
        return {
            "type": type,
            "recipient": self.e164,
            "occurred_at": self.at,
            "evidence": evidence,
            **fields,
        }

    def answer(self, what: str, text: str, within: timedelta) -> list[ToSend]:
        """The answer, by the gateway and from the number that the person wrote to."""
        if not self.row["recipient"]:
            return []  # the gateway has not said to which
        return [
            _to_send(
                f"{what}:{self.key}:{self._hour(what)}",
                self.e164,
                self.key,
                self.country,
                text,
                sender=self.row["recipient"],
                gateway=self.row["gateway"],
                closes_at=self.row["received_at"] + within,
            )
        ]

    def _hour(self, what: str) -> str:
        # A revocation is answered once; else once an hour, lest two machines talk to each other.
        return self.at.isoformat() if what == "optout" else f"{self.at:%Y-%m-%dT%H}"


def _to_send(
    request_key: str,
    e164: str,
    number_key: str,
    country: str | None,
    text: str,
    *,
    sender: str,
    gateway: str,
    closes_at: datetime,
) -> ToSend:
    encoding, segments = count_segments(text)
    return ToSend(
        request_key=request_key,
        recipient=e164,
        number_key=number_key,
        country=country,
        text=text,
        encoding=encoding,
        segments=segments,
        sender=sender,
        gateway=gateway,
        closes_at=closes_at,
    )


def _act(heard: _Heard, found: Reply, known: _Known, made: _Made) -> None:
    match found.kind:
        case replies.OPT_OUT:
            _opt_out(heard, found, known, made)
        case replies.OPT_IN:
            _opt_in(heard, known, made)
        case replies.HELP:
            _help(heard, known, made)


def _opt_out(heard: _Heard, found: Reply, known: _Known, made: _Made) -> None:
    known.questions.pop(heard.key, None)
    if heard.key in known.stopped:
        return
    method = "keyword" if found.why.startswith("keyword") else "phrase"
    made.events.append(heard.event("opt_out", scope="*", source="inbound:STOP", method=method))
    made.confirmations += heard.answer("optout", answer_texts.confirmation(), CONFIRM_WITHIN)
    known.stopped.add(heard.key)
    known.mute.add(heard.key)


def _opt_in(heard: _Heard, known: _Known, made: _Made) -> None:
    question = known.questions.pop(heard.key, None)
    # A START says nothing of the question: it lifts an opt-out, on what they agreed to before.
    if question is not None and heard.row["why"] == "answer":
        asked = question["evidence"] or {}
        told = heard.event(
            "opt_in",
            scope=question["scope"],
            basis="express_written",
            source="inbound:YES",
            method="double_opt_in",
            wording_version=question["wording_version"],
            text_hash=question["text_hash"],
            evidence={"question": asked.get("question", "")},
        )
    else:
        basis = known.bases.get(heard.key, "express")
        told = heard.event(
            "opt_in", scope="*", basis=basis, source="inbound:START", method="keyword"
        )
        known.stopped.discard(heard.key)
        known.mute.discard(heard.key)
    made.events.append(told)
    known.bases[heard.key] = told["basis"]
    if heard.key not in known.mute:
        made.answers += heard.answer("welcome", answer_texts.welcome(), ANSWER_WITHIN)


def _help(heard: _Heard, known: _Known, made: _Made) -> None:
    text = answer_texts.help_answer()
    if text and heard.key not in known.mute:
        made.answers += heard.answer("help", text, ANSWER_WITHIN)
        return
    heard.row["review"] = "open"
    heard.row["why"] = "no help contact" if not text else "help, but opted out"


# ------------------------------------------------------------------ what is known


def _known(connection: Connection, keys: Sequence[str]) -> _Known:
    out = {
        purpose: consent_ledger.opt_out_stands(_EVENTS.c.number_key, purpose)
        for purpose in PURPOSES
    }
    # Of a number that was deactivated, and so is another person's, a STOP is news.
    deactivated = out.pop(standing_runs.CONFIRMATIONS)
    del out["emergency"]
    statement = select(*(_EVENTS.c[name] for name in _TOLD)).where(
        _EVENTS.c.number_key.in_(keys), _EVENTS.c.type.in_(["opt_in", "opt_in_pending", "opt_out"])
    )
    events = [dict(row) for row in connection.execute(statement).mappings()]
    return _Known(
        stopped=_which(connection, keys, and_(*out.values(), ~deactivated)),
        mute=_which(connection, keys, out[standing_runs.ANSWERS]),
        unasked=_which(connection, keys, or_(out["marketing"], out[standing_runs.ANSWERS])),
        questions=_unanswered(events),
        asked=Counter(e["number_key"] for e in events if e["type"] == "opt_in_pending"),
        bases=_bases(events),
    )


def _which(connection: Connection, keys: Sequence[str], holds: ColumnElement[bool]) -> set[str]:
    number_key = _EVENTS.c.number_key
    found = select(number_key).where(number_key.in_(keys), holds).distinct()
    return set(connection.execute(found).scalars())


def _unanswered(events: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The latest question to each number that has not opted in or out since."""
    asked = [event for event in events if event["type"] == "opt_in_pending"]
    latest = {event["number_key"]: event for event in sorted(asked, key=_when)}
    for event in events:
        question = latest.get(event["number_key"])
        if question is None or event["type"] == "opt_in_pending" or _is_import(event):
            continue
        undated_out = event["occurred_at"] is None and event["type"] == "opt_out"
        if undated_out or _when(event) >= _when(question):
            del latest[event["number_key"]]
    return latest


def _is_import(event: dict[str, Any]) -> bool:
    imported: bool = event["method"].startswith(consent_ledger.IMPORT)
    return imported and event["type"] == "opt_in"


def _bases(events: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The basis of each number's last opt-in."""
    given = [event for event in events if event["type"] == "opt_in" and event["basis"]]
    return {event["number_key"]: event["basis"] for event in sorted(given, key=_when)}


def _when(event: dict[str, Any]) -> datetime:
    return event["occurred_at"] or _LONG_AGO


# ------------------------------------------------------------------ the question


@impersonal
def ask(number: str, gateway: str, wording: str, source: str, *, sender: str) -> str:
    """Ask a person by SMS to say YES (double opt-in); return the id of the message.

    `wording` is what they would get (`answer_texts.OUR_MESSAGES`), `source` where they gave the
    number, `sender` the number or name that the question comes from. The receiver sends it, and
    takes a YES for the answer for seven days. Raises `AskError` where it must not be asked.
    """
    person = _people([number]).iloc[0]
    e164, key, text = person["e164"], person["number_key"], answer_texts.question(wording)
    if not key:
        raise AskError("this is no telephone number: write it with + and its country code")
    with writing() as connection:
        known, at = _known(connection, [key]), clock(connection)
        _refuse(known, key, mask(e164))
        question = _to_send(
            f"question:{key}:{known.asked[key] + 1}",
            e164,
            key,
            person["region"] or None,
            text,
            sender=sender,
            gateway=gateway,
            closes_at=at + ASK_WITHIN,
        )
        new = standing_runs.add(connection, standing_runs.ANSWERS, at.date(), [question])
        if not new:
            raise AskError(f"{mask(e164)} was asked a moment ago")
        event = {
            "type": "opt_in_pending",
            "recipient": e164,
            "scope": _QUESTION_SCOPE,
            "basis": "",
            "occurred_at": at,
            "source": source,
            "method": "double_opt_in",
            "wording_version": answer_texts.QUESTION_VERSION,
            "wording": text,
            "evidence": {"question": new[question.request_key], "gateway": gateway}
            | {"our_number": sender},
        }
        consent_ledger.append(connection, pd.DataFrame([event]))
    return new[question.request_key]


def _refuse(known: _Known, key: str, told: str) -> None:
    if key in known.unasked:
        raise AskError(
            f"{told} has opted out and is not asked; only a START of theirs changes that"
        )
    if key in known.questions:
        when = f"{known.questions[key]['occurred_at']:%Y-%m-%d}"
        raise AskError(f"{told} was asked on {when} and has not answered; nobody is asked twice")


def warm_up() -> None:
    """Load what reading numbers needs, before a reply has to wait for it."""
    _people(["+12025550123"])
    replies.classify("")
