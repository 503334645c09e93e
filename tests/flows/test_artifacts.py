"""What a reviewer's browser makes of an artifact: no picture, link or markup of a marketer's."""

from typing import Any

import httpx
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from flows import server
from tests.flows.campaigns import Desk

# Each would call out, run, or forge part of a page, if it were not shown as it stands.
HOSTILE = [
    "![x](http://evil.example/p.png)",
    "<img src=http://evil.example/p.png onerror=alert(1)>",
    "[press](javascript:alert(1))",
    "<script>alert(1)</script>",
    "a | b `c` **d** ~~e~~ # f",
    "&#60;script&#62;",
    "![x][y] <http://evil.example>",
]


def parsed(markdown: str) -> list[Token]:
    """The tokens of a page as GitHub's dialect reads it, with those inside lines."""
    outer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = outer.parse(markdown)
    return [*tokens, *(inner for token in tokens for inner in token.children or ())]


def called(tokens: list[Token]) -> list[str]:
    """What a browser would fetch, follow or run; pictures inside the page are the report's own."""
    pictures = [str(t.attrs["src"]) for t in tokens if t.type == "image"]
    links = [str(t.attrs["href"]) for t in tokens if t.type == "link_open"]
    markup = [t.content for t in tokens if t.type in ("html_inline", "html_block")]
    outside = [src for src in pictures if not src.startswith("data:image/png;base64,")]
    return outside + links + [each for each in markup if each != "<br>"]


def artifacts(run_id: str) -> dict[str, dict[str, Any]]:
    wanted = {"artifacts": {"key": {"like_": f"%{run_id}"}}}
    found = httpx.post(f"{server.api_url()}/artifacts/filter", json=wanted).json()
    return {artifact["key"].partition("-")[0]: artifact for artifact in found}


def test_the_parser_here_would_see_it() -> None:
    assert len(called(parsed("\n\n".join(HOSTILE)))) == 4


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_texts_and_columns_of_a_marketer_are_shown_as_they_stand(
    desk: Desk, hostile: str
) -> None:
    quoted = '"{}"'.format(hostile.replace('"', '""'))
    rows = [f"{phone},{quoted},{quoted}" for phone in [*desk.people(1), "123"]]
    path = desk.folder / "audience.csv"
    path.write_text("\n".join([f"Tel {quoted[1:-1].replace(',', '')},{quoted},note", *rows, ""]))
    audience = {"kind": "csv", "path": str(path), "columns": {"phone": f"Tel {hostile}"}}
    fields = {"name": hostile, "message": f"Look: {hostile} {{{{ note }}}}"}
    said = desk.sms("send", desk.campaign(audience, max_invalid_share=1, **fields))
    assert said.code == 0, said.err
    found = artifacts(said.run_id)
    assert found.keys() >= {"validation", "preview", "rejects", "report"}
    for what in ("validation", "preview", "report"):
        page = parsed(found[what]["data"])
        assert called(page) == [], what
        headings = [t for t, before in zip(page[1:], page, strict=False) if before.tag == "h1"]
        assert hostile in "".join(t.content for t in headings[0].children or ()), what
    for artifact in found.values():
        assert called(parsed(artifact["description"] or "")) == []
