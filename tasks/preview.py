"""The preview of a run as Markdown: whom it reaches, how it reads, what it costs, when it ends.

Here: the figures of a complete plan and how they are shown. Not here: counting (data/figures),
layout (data/templates/preview.md.j2), and the artifact it becomes (reporting). Nothing personal is
in it: numbers are masked, and so are the words of a text that come from the audience.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from data import figures
from data.database import reading
from data.privacy import mask_column, mask_text
from data.rules import rules
from data.tables import CampaignRun
from tasks import phones, wording
from tasks.markdown import duration, instant, linked, money, records, render
from tasks.preparation import Planned
from tasks.purpose import raised, with_opt_out
from tasks.segments import describe_character, measure
from tasks.validation import SUITE

SAMPLES = 10
REJECTS = 100
CHARACTERS = 10
_TEXTS_MEASURED = 500


def preview_markdown(
    run: CampaignRun, notes: list[str], planned: list[Planned], rate: float | None = None
) -> str:
    """Return what would be sent to whom, at what cost, when, and who gets nothing and why."""
    with reading() as connection:
        plan = figures.planned(connection, run.id)
        samples = figures.sample_messages(connection, run.id, SAMPLES)
        opens, closes = figures.openings(connection, run.id)
        ucs2 = figures.ucs2_texts(connection, run.id, _TEXTS_MEASURED)
        untold = figures.without_opt_out_text(connection, run.id)
    counts = {str(k): int(n) for k, n in plan.groupby("outcome")["rows"].sum().items()}
    now, later = counts.get("queued", 0), counts.get("deferred", 0)
    source, appended = _source(run)
    kinds = _added_up([part.encodings for part in planned], ["encoding", "segments", "forcing"])
    costs = _estimates(planned)
    gateways = sum((part.gateways for part in planned), Counter[str]())
    characters = _forcing(kinds, ucs2, source)
    return render(
        "preview",
        run=run,
        now=now,
        later=later,
        excluded=sum(counts.values()) - now - later,
        funnel=_funnel(run.records_read or sum(counts.values()), counts),
        hours=run.parameters.get("hours", ""),
        content=", ".join(run.parameters.get("content", ())),
        raised=_raised(run),
        appended=appended,
        untold=_untold(untold),
        exclusions=by_rule(plan[plan["outcome"] != "queued"]),
        samples=_samples(samples, source),
        senders=", ".join(sorted(filter(None, samples["sender"].unique()))),
        encodings=_encodings(kinds),
        messages=int(kinds["messages"].sum()),
        segments=int((kinds["messages"] * kinds["segments"]).sum()),
        forcing=characters[:CHARACTERS],
        more_forcing=len(characters[CHARACTERS:]),
        costs=costs,
        assumed=sum(cost["assumed"] for cost in costs),
        rate=f"{rate:,g}" if rate else "",
        duration=duration(now / rate) if rate else "",
        opens=opens,
        closes=closes,
        gateways=gateways.most_common() if len(gateways) > 1 else [],
        notes=[mask_text(note) for note in notes],
    )


def _funnel(read: int, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The steps from the records read to the messages of now; every row is in one of them."""
    lost = ["invalid", "duplicate", "suppressed", "blocked", "held_out", "deferred"]
    steps: list[dict[str, Any]] = [{"words": "Records read", "sign": "", "rows": read}]
    for outcome in lost:
        if rows := counts.get(outcome, 0):
            words = f"{wording.name(outcome)}: {wording.OUTCOMES[outcome]}"
            steps.append({"words": words, "sign": "−", "rows": rows})
    return [*steps, {"words": "To send now", "sign": "= ", "rows": counts.get("queued", 0)}]


def _source(run: CampaignRun) -> tuple[str, str]:
    """The message as it goes out, a template still, and what was put behind the author's."""
    message, added = run.parameters["message"], run.parameters.get("opt_out_text", "")
    if run.purpose != "marketing":
        return message, ""
    source = with_opt_out(message, added)
    return source, "" if source == message else added.strip()


def _raised(run: CampaignRun) -> str:
    """Why the run's purpose is not the one that its author named; empty where it is."""
    named = run.parameters.get("purpose", run.purpose)
    why = raised(named, run.parameters["message"], run.parameters.get("content", ()))[1]
    return f"{named} was named, and it is sent as {run.purpose}: {mask_text(why)}" if why else ""


def _untold(found: pd.DataFrame) -> list[dict[str, Any]]:
    """What the message has to say in which countries: countries with their rows, words, rows."""
    numbers = found["recipient"].astype("str")
    country = phones.normalise(numbers, "")["region"].fillna("").replace("", "unknown")
    summed = found.assign(country=country).groupby(["rule", "country"], sort=False)["rows"].sum()
    told = []
    for rule, rows in summed.groupby(level="rule", sort=False):
        row = rules().by_id(str(rule))
        by_country = rows.droplevel("rule").sort_values(ascending=False, kind="stable")
        told.append(
            {
                "countries": ", ".join(f"{name} {count:,}" for name, count in by_country.items()),
                "words": " or ".join(word.upper() for word in (row.keywords if row else ())),
                "rows": int(rows.sum()),
            }
        )
    return told


def by_rule(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Return records by the rule that stopped or deferred them, as a table wants them.

    `found` is of `data.figures.planned` or `stopped`.
    """
    return [
        {
            "outcome": wording.name(row["outcome"]),
            "reason": wording.reason(row["reason"], row["outcome"]),
            "rows": row["rows"],
            "opens": _times(row["first"], row["last"]),
            **_rule(row["rule"]),
        }
        for row in records(found)
    ]


def _rule(name: str) -> dict[str, Any]:
    if name == "validation":
        suite = f"data/expectations/{SUITE.name}"
        return {"rule": name, "says": "The checks of the audience.", "source": suite, "sure": ""}
    row = rules().by_id(name)
    if row is None:
        return {"rule": name, "says": "", "source": "", "sure": ""}
    return {"rule": name, "says": row.says, "source": linked(row.source), "sure": row.confidence}


def _times(first: pd.Timestamp, last: pd.Timestamp) -> str:
    if pd.isna(first):
        return ""
    return instant(first) if first == last else f"{instant(first)} to {instant(last)}"


def _samples(samples: pd.DataFrame, source: str) -> list[dict[str, Any]]:
    text = wording.SampleText(source)
    return records(
        samples.assign(
            row=samples["row"].astype("str"),
            recipient=mask_column(samples["recipient"]),
            text=samples["text"].map(text.mask),
        )
    )


def _encodings(kinds: pd.DataFrame) -> list[dict[str, Any]]:
    lengths = _added_up([kinds], ["encoding", "segments"])
    return records(lengths.assign(total=lengths["segments"] * lengths["messages"]))


def _forcing(kinds: pd.DataFrame, ucs2: pd.Series, source: str) -> list[dict[str, Any]]:
    """The characters that force UCS-2, most frequent first.

    `extra`: the segments that one of the message's own costs, from up to 500 texts; None for the
    audience's: a name is spelt as it is spelt.
    """
    wide = kinds[kinds["encoding"] == "UCS-2"]
    counts = wide.groupby("forcing")["messages"].sum().sort_values(ascending=False)
    forcing = measure(ucs2)
    characters = []
    for character, messages in counts.items():
        extra = None
        if str(character) in source:
            texts = ucs2[forcing["forcing"] == character]
            without = measure(texts.str.replace(str(character), "", regex=False))["segments"]
            saved = forcing.loc[texts.index, "segments"] - without
            extra = round(float(saved.mean()) * messages) if len(saved) else 0
        name = describe_character(str(character))
        characters.append({"name": name, "messages": int(messages), "extra": extra})
    return characters


def _estimates(planned: list[Planned]) -> list[dict[str, Any]]:
    if not planned:
        return []
    summed = pd.concat([part.summary for part in planned]).groupby(level="currency").sum()
    return [
        {**row, "amount": money(row["currency"], row["cost"])}
        for row in records(summed.reset_index())
    ]


def _added_up(parts: list[pd.DataFrame], by: list[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=[*by, "messages"])
    return pd.concat(parts).groupby(by)["messages"].sum().reset_index()


def rejects_table(run_id: str) -> list[dict[str, Any]]:
    """Return a masked sample of the rows that cannot be used: up to 100, some of every reason."""
    with reading() as connection:
        found = figures.sample_rejects(connection, run_id, REJECTS)
    return records(
        found.assign(
            reason=found["reason"].map(lambda code: wording.reason(code, "invalid")),
            recipient=mask_column(found["recipient"]),
            detail=found["detail"].map(mask_text),
        )
    )
