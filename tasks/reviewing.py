"""How the replies that wait for a person are shown: masked, oldest first.

Here: the rows of the list and its artifact. Not here: reading and deciding (data.inbound).
"""

import json
from typing import Any

from data import inbound
from data.inbound import OpenReply
from data.privacy import impersonal, mask, mask_text
from tasks.markdown import escape

ARTIFACT = "replies-to-review"
SHOWN = 200
_SUSPECTED = {"opt_out": "opt_out (acted on)", "review": "unclear (held)"}


def row(reply: OpenReply) -> dict[str, str]:
    """One reply as people may see it: id, received (UTC), number, gateway, suspected, text."""
    return {
        "id": str(reply.id),
        "received (UTC)": f"{reply.received_at:%Y-%m-%d %H:%M}",
        "number": mask(reply.sender),
        "gateway": reply.gateway,
        "suspected": f"{_SUSPECTED[reply.kind]}: {reply.why}" if reply.why else reply.kind,
        "text": mask_text(" ".join(reply.text.split())),
    }


@impersonal
def show_replies() -> None:
    """Make the artifact `replies-to-review` where a reply waits, or newer versions as they change.

    Where nothing waits any more, the last version says so.
    """
    from prefect.artifacts import Artifact, create_table_artifact

    shown = inbound.queue(SHOWN)
    table = [{name: escape(cell) for name, cell in row(reply).items()} for reply in shown]
    last = Artifact.get(ARTIFACT)
    # This runs every minute; a version a minute of the same rows would bury the others.
    if table == _rows(last):
        return
    create_table_artifact(table, key=ARTIFACT, description=_words(inbound.count_open(), len(shown)))


def _rows(artifact: Any) -> list[Any]:
    data = getattr(artifact, "data", None) or []
    return list(json.loads(data)) if isinstance(data, str) else list(data)


def _words(waiting: int, shown: int) -> str:
    if not waiting:
        return "No reply waits for a person."
    more = f" The oldest {shown:,} are here; `sms inbound review` lists all." * (shown < waiting)
    return (
        f"{waiting:,} {'reply waits' if waiting == 1 else 'replies wait'} for a person.{more}"
        " `sms inbound review --show ID` prints one in full,"
        " `sms inbound decide ID opt_out|opt_in|none --by NAME` decides it."
    )
