"""What people look at: validation, preview and report of a run, as Prefect artifacts and files.

Here: the figures of validation and report, and where they are shown. Not here: the preview's
(preview), counting (data/figures, data/results), codes in words (wording), drawing (plots), layout
(data/templates/*.md.j2). Nothing in them is personal: the audience's numbers and words are masked.
"""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from data import figures, results, switches
from data.database import reading
from data.privacy import impersonal, mask_column, mask_text
from data.tables import CampaignRun
from data.workspace import Workspace
from tasks import wording
from tasks.markdown import data_uri, duration, escape, money, records, render
from tasks.preparation import Planned
from tasks.preview import by_rule, preview_markdown, rejects_table
from tasks.validation import Totals
from tasks.wording import share

DOUBTS = 50
COUNTRIES = 15
_LOST = ["undelivered", "failed", "rejected", "expired"]


@impersonal
def show_validation(run: CampaignRun, totals: Totals) -> None:
    """Make the artifact `validation-RUN`."""
    _show("validation", run, validation_markdown(run, totals))


@impersonal
def show_preview(
    run: CampaignRun, notes: list[str], planned: list[Planned], rate: float | None = None
) -> None:
    """Make the artifacts `preview-RUN` and, where rows were rejected, `rejects-RUN`.

    `rate` is in messages a second. The run's plan is complete.
    """
    from prefect.artifacts import create_table_artifact

    _show("preview", run, preview_markdown(run, notes, planned, rate))
    if table := rejects_table(run.id):
        title = f"Rejected rows of {escape(run.name)}: a sample"
        create_table_artifact(table, key=_key("rejects", run), description=title)


@impersonal
def show_campaign(run: CampaignRun) -> None:
    """Make the artifact `report-RUN`; once more, a newer version of it."""
    _show("report", run, campaign_markdown(run))


@impersonal
def save_report(run: CampaignRun, path: Path | None = None) -> Path:
    """Write the report as Markdown, and beside it a picture of its summary (`.png`).

    Without a path `report.md` in the run's own folder. Returns the path of the Markdown.
    """
    from tasks.plots import summary_png

    path = path or Workspace(run.id).report("report.md")
    path.write_text(campaign_markdown(run), encoding="utf-8")
    with reading() as connection:
        counts = results.outcome_counts(connection, run.id)
        timeline = figures.timeline(connection, run.id)
        cost = _cost_words(figures.costs(connection, run.id))
    rows = sum(counts.values())
    subtitle = f"{counts.get('delivered', 0):,} of {rows:,} rows delivered"
    picture = summary_png(run.name, " · ".join(filter(None, [subtitle, cost])), counts, timeline)
    path.with_suffix(".png").write_bytes(picture)
    return path


def outcome_table(run_id: str) -> list[tuple[str, str, int]]:
    """Return outcome, reason in words, and rows; the most frequent first."""
    with reading() as connection:
        found = results.reasons(connection, run_id)
    words = pd.Series(
        [wording.reason(*codes) for codes in zip(found["reason"], found["outcome"], strict=True)],
        index=found.index,
        name="reason",
        dtype="str",
    )
    summed = found.groupby(["outcome", words], sort=False)["rows"].sum()
    ordered = summed.sort_values(ascending=False, kind="stable").reset_index()
    return list(ordered.itertuples(index=False, name=None))


# ------------------------------------------------------------------ validation


def validation_markdown(run: CampaignRun, totals: Totals) -> str:
    """Return what the validation found, in words and counts."""
    rules = [
        {**rule, "share": share(rule["failing"], rule["checked"])} for rule in totals.rules.values()
    ]
    rejects = [
        {
            "words": totals.rules[code]["words"]
            if code in totals.rules
            else wording.reason(code, "invalid"),
            "rows": rows,
            "share": share(rows, totals.records),
        }
        for code, rows in totals.rejects.most_common()
    ]
    rejected = totals.rejects.total()
    return render(
        "validation",
        name=run.name,
        records=totals.records,
        good=totals.records - rejected,
        rejected=rejected,
        share_bad=share(rejected, totals.records),
        rules=rules,
        rejects=rejects,
        page=str(Workspace(run.id).report("validation.html")),
    )


# ------------------------------------------------------------------ report


def campaign_markdown(run: CampaignRun) -> str:
    """Return what became of every row, as the results table has it now."""
    from tasks.plots import outcomes_png, timeline_png

    with reading() as connection:
        account = results.account(connection, run.id)
        timeline = figures.timeline(connection, run.id)
        costs = figures.costs(connection, run.id)
        latency = _latency(figures.latencies(connection, run.id))
        countries = _outcomes_by("country", figures.countries(connection, run.id))
        gateways = _outcomes_by("gateway", figures.gateways(connection, run.id))
        doubts = figures.in_doubt(connection, run.id, DOUBTS)
        stopped = figures.stopped(connection, run.id)
    switched = _switches(run)
    counts = account.outcomes
    rows = account.accounted if account.read is None else account.read
    reasons = [
        {"outcome": wording.name(outcome), "reason": words, "rows": n, "share": share(n, rows)}
        for outcome, words, n in outcome_table(run.id)
    ]
    outcomes = [
        {
            "outcome": wording.name(name),
            "rows": n,
            "share": share(n, rows),
            "words": wording.OUTCOMES[name],
        }
        for name, n in counts.items()
    ]
    return render(
        "campaign",
        run=run,
        note=mask_text(run.note),
        rows=rows,
        accounted=account.accounted,
        delivered=counts.get("delivered", 0),
        delivered_share=share(counts.get("delivered", 0), rows),
        outcomes=outcomes,
        reasons=reasons,
        rules=by_rule(stopped[stopped["rule"] != ""]),
        outcomes_picture=data_uri(outcomes_png(counts)),
        timeline_picture=data_uri(timeline_png(timeline)),
        costs=_compared(costs),
        cost_words=_cost_words(costs),
        latency=latency,
        gateways=gateways if len(gateways) > 1 or switched else [],
        switches=switched,
        countries=countries[:COUNTRIES],
        more_countries=len(countries[COUNTRIES:]),
        more_messages=sum(row["messages"] for row in countries[COUNTRIES:]),
        doubts=_doubts(doubts),
        more_doubts=max(counts.get("in_doubt", 0) - DOUBTS, 0),
    )


def _doubts(found: pd.DataFrame) -> list[dict[str, Any]]:
    return records(
        found.assign(
            row=found["row"].astype("str"),
            recipient=mask_column(found["recipient"]),
            reason=found["reason"].map(wording.reason),
        )
    )


def _compared(costs: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "estimate": money(row["currency"], row["estimate"]) if row["messages"] else "",
            "charged": money(row["currency"], row["charged"]) if row["priced"] else "not known yet",
        }
        for row in records(costs)
    ]


def _cost_words(costs: pd.DataFrame) -> str:
    """What was charged where the gateway told all prices of a currency, else the estimate."""
    return ", ".join(
        money(row["currency"], row["charged"])
        if row["priced"] >= row["messages"]
        else f"{money(row['currency'], row['estimate'])} (estimate)"
        for row in records(costs)
    )


def _latency(taken: pd.DataFrame) -> dict[str, Any] | None:
    """Quantiles of a histogram: the first time by which so many reports had come."""
    if taken.empty:
        return None
    # A gateway's clock may run behind ours.
    seconds, until = taken["seconds"].astype("float64").clip(lower=0), taken["rows"].cumsum()
    reports = int(until.iloc[-1])

    def within(part: float) -> str:
        return duration(float(seconds[until >= part * reports].iloc[0]))

    return {
        "reports": reports,
        "median": within(0.5),
        "p95": within(0.95),
        "longest": within(1.0),
    }


def _switches(run: CampaignRun) -> list[dict[str, Any]]:
    return [
        {
            "at": switch.happened_at,
            "gateway": switch.gateway,
            "reason": mask_text(switch.reason),
            "moved": switch.moved,
            "until": switch.ended_at,
        }
        for switch in switches.of_run(run.id)
    ]


def _outcomes_by(column: str, found: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table: `column`, messages, delivered, lost, open, share; most messages first."""
    table = found.pivot_table(index=column, columns="outcome", values="rows", aggfunc="sum")
    table = table.reindex(columns=sorted({*found["outcome"], "delivered", *_LOST}))
    table = table.fillna(0).astype("int64")
    shown = pd.DataFrame(
        {
            column: table.index.where(table.index != "", "unknown"),
            "messages": table.sum(axis="columns"),
            "delivered": table["delivered"],
            "lost": table[_LOST].sum(axis="columns"),
        }
    ).sort_values("messages", ascending=False, kind="stable")
    shown["open"] = shown["messages"] - shown["delivered"] - shown["lost"]
    return [{**row, "share": share(row["delivered"], row["messages"])} for row in records(shown)]


# ------------------------------------------------------------------ Markdown and artifacts


def _show(what: str, run: CampaignRun, markdown: str) -> None:
    from prefect.artifacts import create_markdown_artifact

    # The UI shows a description as Markdown too.
    title = f"{what.capitalize()} of {escape(run.name)}"
    create_markdown_artifact(markdown, key=_key(what, run), description=title)


def _key(what: str, run: CampaignRun) -> str:
    # Prefect allows lower-case letters, digits and dashes.
    return re.sub(r"[^a-z0-9]+", "-", f"{what}-{run.id}".lower()).strip("-")
