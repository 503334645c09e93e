"""HTTP audiences, against a real server: paging, retries, and what ends in an error."""

import gzip
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from adapters.sources import http as http_module
from adapters.sources.base import HttpConnection, Partition, SourceError
from adapters.sources.http import HttpSource

Answer = tuple[int, dict[str, str], bytes]


class Api:
    """A server on loopback; `answer` decides, `requests` records what was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str, dict[str, str]], Answer] = lambda path, query: ok([])
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.requests.append((self.path, dict(self.headers)))
                parts = urlsplit(self.path)
                query = {key: values[0] for key, values in parse_qs(parts.query).items()}
                status, headers, body = api.answer(parts.path, query)
                if status == 0:  # hang up
                    return
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(http_module, "BACK_OFF", 0.001)
    served = Api()
    yield served
    served.server.shutdown()
    served.server.server_close()


def ok(body: Any, **headers: str) -> Answer:
    return 200, headers, json.dumps(body).encode()


def numbered(pages: int, per_page: int = 2) -> Callable[[str, dict[str, str]], Answer]:
    def answer(path: str, query: dict[str, str]) -> Answer:
        page = int(query.get("page", 1))
        first = (page - 1) * per_page
        return ok([{"id": first + n} for n in range(1, per_page + 1)] if page <= pages else [])

    return answer


def source(api: Api, **settings: Any) -> HttpSource:
    return HttpSource(
        HttpConnection.model_validate({"url": f"{api.url}/contacts", **settings}), name="crm"
    )


def read(opened: HttpSource, size: int = 100_000) -> Partition:
    parts = list(opened.partitions(size))
    return Partition(
        pd.concat([part.frame for part in parts]),
        pd.concat([part.rejects for part in parts], ignore_index=True),
    )


def test_numbered_pages_are_read_until_an_empty_one(api: Api) -> None:
    api.answer = numbered(5)
    frame = read(source(api)).frame
    assert frame["id"].tolist() == [str(n) for n in range(1, 11)]
    assert frame.index.tolist() == list(range(1, 11))
    assert [path for path, _ in api.requests] == [f"/contacts?page={n}" for n in range(1, 7)]


def test_other_parameters_of_the_address_stay(api: Api) -> None:
    api.answer = lambda path, query: ok([{"id": 1}] if query["p"] == "1" else [])
    read(source(api, url=f"{api.url}/contacts?per_page=2", page_parameter="p"))
    assert [path for path, _ in api.requests] == [
        "/contacts?per_page=2&p=1",
        "/contacts?per_page=2&p=2",
    ]


def test_next_links_are_followed_with_the_headers(api: Api) -> None:
    pages = {
        "/contacts": {"data": {"list": [{"id": 1}]}, "links": {"next": "/more?after=1"}},
        "/more": {"data": {"list": [{"id": 2}]}, "links": {"next": None}},
    }
    api.answer = lambda path, query: ok(pages[path])
    opened = source(
        api, records="data.list", next="links.next", headers={"Authorization": "Bearer hunter2"}
    )
    assert read(opened).frame["id"].tolist() == ["1", "2"]
    assert [path for path, _ in api.requests] == ["/contacts", "/more?after=1"]
    assert {headers["Authorization"] for _, headers in api.requests} == {"Bearer hunter2"}


def test_without_paging_one_answer_is_all(api: Api) -> None:
    api.answer = lambda path, query: ok([{"id": 1}])
    read(source(api, page_parameter=""))
    assert [path for path, _ in api.requests] == ["/contacts"]


def test_values_become_text_and_bad_records_rejects(api: Api) -> None:
    records = [
        {"phone": "0791", "n": 5, "yes": True, "tags": ["a", {"b": 1}], "gone": None},
        "text",
        {"phone": "2"},
        {},
        {"phone": "a\0b"},
        {"phone": "\ud800"},
        None,
    ]
    api.answer = lambda path, query: ok(records)
    opened = source(api, page_parameter="")
    assert opened.columns == ["phone", "n", "yes", "tags", "gone"]
    whole = read(opened)
    assert whole.frame.astype(object).where(whole.frame.notna(), None).values.tolist() == [
        ["0791", "5", "true", '["a",{"b":1}]', None],
        ["2", None, None, None, None],
    ]
    assert whole.frame.index.tolist() == [1, 3]
    assert whole.rejects[["row", "reason"]].values.tolist() == [
        [2, "not_an_object"],
        [4, "blank_row"],
        [5, "nul_byte"],
        [6, "undecodable_text"],
        [7, "not_an_object"],
    ]


def test_fields_that_only_later_pages_have_are_ignored_with_a_warning(api: Api) -> None:
    pages = [[{"a": 1}], [{"a": 2, "b": 3}], [{"b": 4, "a": 5}], []]
    api.answer = lambda path, query: ok(pages[int(query["page"]) - 1])
    opened = source(api)
    assert list(read(opened).frame.columns) == ["a"]
    assert opened.warnings == ["page 2: a field that page 1 does not have is ignored: 'b'"]


@pytest.mark.parametrize("size", [1, 3, 4, 10, 11])
def test_partitions_have_the_asked_size_whatever_the_pages(api: Api, size: int) -> None:
    api.answer = numbered(5)
    parts = list(source(api).partitions(size))
    assert {len(part.frame) for part in parts[:-1]} <= {size}
    assert [row for part in parts for row in part.frame.index] == list(range(1, 11))


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_a_page_that_fails_for_a_while_is_asked_for_again(api: Api, status: int) -> None:
    pages = numbered(3)

    def answer(path: str, query: dict[str, str]) -> Answer:
        asked = sum(p.endswith("page=2") for p, _ in api.requests)
        failing = query["page"] == "2" and asked < 4
        return (status, {}, b"") if failing else pages(path, query)

    api.answer = answer
    assert read(source(api)).frame["id"].tolist() == [str(n) for n in range(1, 7)]
    assert len(api.requests) == 4 + 3


@pytest.mark.parametrize(
    ("status", "line"),
    [(500, "answered 500, 4 times"), (0, "could not be fetched (RemoteProtocolError), 4 times")],
)
def test_a_page_that_keeps_failing_is_an_error_that_names_it(
    api: Api, status: int, line: str
) -> None:
    pages = numbered(5)
    api.answer = lambda path, query: (
        (status, {}, b"") if query["page"] == "3" else pages(path, query)
    )
    opened = source(api)
    with pytest.raises(SourceError) as error:
        list(opened.partitions())
    assert str(error.value) == f"crm, page 3: {line}: try again later"
    assert sum(path.endswith("page=3") for path, _ in api.requests) == 4
    assert "127.0.0.1" not in str(error.value)


def test_retry_after_is_honoured(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    answers = iter([(429, {"Retry-After": "7"}, b""), ok([{"id": 1}])])
    api.answer = lambda path, query: next(answers)
    read(source(api, page_parameter=""))
    assert 7.0 in waits


def test_a_wait_of_hours_is_not_waited_for(api: Api) -> None:
    api.answer = lambda path, query: (503, {"Retry-After": "7200"}, b"")
    with pytest.raises(SourceError, match="page 1: answered 503 and asks to wait 7200 s"):
        source(api)
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ((401, {}, b""), "page 1: answered 401: check the key"),
        ((404, {}, b""), "page 1: answered 404: check the connection's address"),
        ((302, {"Location": "http://x.invalid/"}, b""), "answered 302: redirects are not"),
        ((200, {}, b"<html>"), "page 1: the answer is not JSON"),
        ((200, {}, b"[" * 100_000), "page 1: the answer is not JSON"),
        (ok({"items": []}), "page 1: the records are not a list"),
        (ok([]), "page 1: has no records"),
        (ok([1, 2]), "page 1: no record is an object"),
        (ok([{"": 1}]), "column 1 has no name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_is_no_list_is_refused_at_once(api: Api, answer: Answer, line: str) -> None:
    api.answer = lambda path, query: answer
    with pytest.raises(SourceError, match=line):
        source(api)
    assert len(api.requests) == 1


def test_a_wrong_path_to_the_records_is_named(api: Api) -> None:
    api.answer = lambda path, query: ok({"data": {}})
    with pytest.raises(SourceError, match=r"page 1: the answer has no field `data\.list`"):
        source(api, records="data.list")


@pytest.mark.parametrize(
    "link", ["http://other.invalid/contacts", "//other.invalid/x", "http://127.0.0.1:9/contacts"]
)
def test_a_next_page_on_another_host_is_not_followed(api: Api, link: str) -> None:
    api.answer = lambda path, query: ok({"list": [{"id": 1}], "next": link})
    opened = source(api, records="list", next="next")
    with pytest.raises(SourceError, match="page 1: the next page is on another host") as error:
        list(opened.partitions())
    assert "other.invalid" not in "".join(traceback.format_exception(error.value))
    assert len(api.requests) == 1


def test_a_next_page_that_was_seen_before_is_an_error(api: Api) -> None:
    def answer(path: str, query: dict[str, str]) -> Answer:
        turn = len(api.requests)
        return ok({"list": [{"id": turn}], "next": f"/contacts?at={turn % 2}"})

    api.answer = answer
    with pytest.raises(SourceError, match="page 4: repeats an earlier page"):
        list(source(api, records="list", next="next").partitions())


def test_an_api_that_ignores_the_page_number_is_an_error(api: Api) -> None:
    api.answer = lambda path, query: ok([{"id": 1}])
    with pytest.raises(SourceError, match="page 2: repeats an earlier page"):
        list(source(api).partitions())


def test_an_answer_that_never_ends_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "LARGEST_PAGE", 10_000)
    api.answer = lambda path, query: ok([{"id": "x" * 20_000}])
    with pytest.raises(SourceError, match="page 1: is larger than 64 MiB"):
        source(api)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "gzip,gzip,gzip"])
def test_an_answer_that_unpacks_without_bound_is_not_unpacked(api: Api, encoding: str) -> None:
    bomb = gzip.compress(gzip.compress(json.dumps([{"id": "x" * 10_000_000}]).encode()))
    api.answer = lambda path, query: (200, {"Content-Encoding": encoding}, bomb)
    with pytest.raises(SourceError, match="page 1: is compressed in a way that was not asked for"):
        source(api)


def test_a_compressed_answer_is_read(api: Api) -> None:
    packed = gzip.compress(json.dumps([{"id": 1}]).encode())
    api.answer = lambda path, query: (200, {"Content-Encoding": "gzip"}, packed)
    assert source(api, page_parameter="").columns == ["id"]
    assert api.requests[0][1]["Accept-Encoding"] == "gzip, deflate"


def test_a_second_reading_is_refused_rather_than_empty(api: Api) -> None:
    api.answer = numbered(1)
    opened = source(api)
    list(opened.partitions())
    with pytest.raises(SourceError, match="was read already"):
        list(opened.partitions())
