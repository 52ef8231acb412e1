"""What a client may send of a question: too much, or what is none, is refused, and nothing else happens."""

import gzip
import re
from collections.abc import Iterator

import pytest

from tests.acceptance.databases import Databases
from tests.acceptance.served import FORM, Pages
from tests.acceptance.site import Site

pytestmark = pytest.mark.one_database

TABLES = ("queuectl_job", "queuectl_event", "queuectl_queue", "queuectl_worker", "auth_user")


@pytest.fixture(scope="module")
def served(site_databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    site = Site(site_databases, tmp_path_factory.mktemp("limits"))
    site.hurry(COMMAND_POLICY="shell")
    site.env["DEBUG"] = "off"
    pages = Pages(site)
    try:
        pages.make_person()
        pages.log_in()
        yield pages
    finally:
        pages.close()
        site.close()


@pytest.fixture
def pages(served: Pages) -> Iterator[Pages]:
    """One server for all: each question leaves everything as it was, and others are answered."""
    before, said = everything(served.site), len(served.log)
    yield served
    assert served.ask("/jobs/")[0].status == 200
    assert everything(served.site) == before
    assert "Traceback" not in served.log[said:]


def everything(site: Site) -> list[object]:
    return [site.sql(f"SELECT count(*) FROM {table}") for table in TABLES]


def statuses(pages: Pages, asks: bytes) -> list[int]:
    """Those of all answers, until the server has closed the connection, as it is asked to."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", answers(pages, asks))]


def answers(pages: Pages, asks: bytes) -> bytes:
    got = b""
    with pages.connect(asks) as client:
        try:
            while data := client.recv(65_536):
                got += data
        except ConnectionResetError:
            pass  # it refused before it had read all that was sent
    return got


def question(pages: Pages, first: str, *headers: str, body: bytes = b"") -> bytes:
    """By somebody who has logged in; a body has its length told unless the headers say something of it."""
    told = "".join(f"{header}\r\n" for header in headers).lower()
    if body and "content-length" not in told and "transfer-encoding" not in told:
        headers = (*headers, f"Content-Length: {len(body)}")
    own = (f"Host: 127.0.0.1:{pages.port}", f"Cookie: {pages.cookie}", "Connection: close")
    lines = [f"{first} HTTP/1.1", *own, *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def form(pages: Pages, more: str = "") -> bytes:
    """What would make a job."""
    return f"csrfmiddlewaretoken={pages.token}&id=x&command=true{more}".encode()


POST, TYPE = "POST /new/", f"Content-Type: {FORM}"


def test_a_body_is_as_large_as_django_takes_at_most(pages: Pages) -> None:
    asks = question(pages, POST, TYPE, body=form(pages, f"&more={'x' * 3_000_000}"))
    assert statuses(pages, asks) == [400]


def test_a_body_that_says_it_is_very_large_is_not_waited_for(pages: Pages) -> None:
    assert statuses(pages, question(pages, POST, TYPE, "Content-Length: 11000000")) == [413]


def test_a_body_that_turns_out_to_be_very_large_is_not_read_to_the_end(pages: Pages) -> None:
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    asks = question(pages, POST, TYPE, "Transfer-Encoding: chunked", body=chunk * 11)
    assert set(statuses(pages, asks)) <= {413}


def test_a_form_has_a_thousand_fields_at_most(pages: Pages) -> None:
    assert statuses(pages, question(pages, POST, TYPE, body=form(pages, "&a=b" * 1000))) == [400]


def test_a_form_has_a_hundred_files_at_most(pages: Pages) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nx\r\n'
    asks = question(
        pages, POST, "Content-Type: multipart/form-data; boundary=b", body=part * 101 + b"--b--\r\n"
    )
    assert statuses(pages, asks) == [400]


@pytest.mark.parametrize("length", ["-1", "+9", "0x9", "9, 9", "1_0", "nine", "", "9" * 5000])
def test_a_length_that_is_none_is_refused(pages: Pages, length: str) -> None:
    asks = question(pages, POST, TYPE, f"Content-Length: {length}", body=form(pages))
    assert statuses(pages, asks) in ([400], [413])


def test_two_lengths_are_refused(pages: Pages) -> None:
    lengths = [f"Content-Length: {length}" for length in (9, 10)]
    assert statuses(pages, question(pages, POST, TYPE, *lengths, body=form(pages))) == [400]


def test_what_comes_after_a_body_is_no_part_of_it(pages: Pages) -> None:
    body = form(pages, "\r\n\r\n")
    asks = question(pages, POST, TYPE, "Content-Length: 9", body=body)
    asks = asks.replace(b"Connection: close\r\n", b"")
    assert statuses(pages, asks) == [403, 400]


def test_a_body_in_pieces_is_a_body_and_refused_for_the_same_reasons(pages: Pages) -> None:
    body = b"a\r\ncommand=ls\r\n0\r\n\r\n"
    asks = question(pages, POST, TYPE, "Transfer-Encoding: chunked", body=body)
    assert statuses(pages, asks) == [403]


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nx\r\n0\r\n\r\n",
        b"-1\r\nx\r\n",
        b"2\r\nxyz\r\n0\r\n\r\n",
        b"1;\x00\r\nx\r\n0\r\n\r\n",
    ],
)
def test_pieces_that_are_none_are_refused(pages: Pages, body: bytes) -> None:
    asks = question(pages, POST, TYPE, "Transfer-Encoding: chunked", body=body)
    assert statuses(pages, asks) == [400]


def test_pieces_and_a_length_do_not_make_two_questions_of_one(pages: Pages) -> None:
    inner = question(pages, "GET /static/queuectl/queuectl.css")
    asks = question(
        pages, POST, TYPE, "Content-Length: 5", "Transfer-Encoding: chunked",
        body=b"0\r\n\r\n" + inner,
    )  # fmt: skip
    assert statuses(pages, asks) == [403]


@pytest.mark.parametrize(
    "coding", ["gzip", "gzip, chunked", "chunked, gzip", "identity", "xchunked"]
)
def test_another_coding_of_the_whole_is_refused(pages: Pages, coding: str) -> None:
    asks = question(pages, POST, TYPE, f"Transfer-Encoding: {coding}", body=form(pages))
    assert statuses(pages, asks) == [501]


def test_a_packed_body_is_not_unpacked(pages: Pages) -> None:
    packed = gzip.compress(form(pages))
    asks = question(pages, POST, TYPE, "Content-Encoding: gzip", body=packed)
    assert statuses(pages, asks) == [403]


def test_a_question_is_not_repeated_to_who_asked_it(pages: Pages) -> None:
    said = answers(pages, question(pages, "TRACE /", "X-Secret: hidden"))
    assert said.startswith(b"HTTP/1.1 405 ") and b"hidden" not in said


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT"])
def test_no_header_makes_another_method_of_one(pages: Pages, method: str) -> None:
    names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    asks = question(pages, "GET /new/?id=x&command=true", *(f"{name}: {method}" for name in names))
    assert statuses(pages, asks) == [200]


@pytest.mark.parametrize(
    "headers",
    [
        ["X-Header: more"] * 5000,
        [f"X-{n}: {'x' * 60}" for n in range(1000)],
        ["X: " + "x" * 70_000],
    ],
)
def test_headers_have_a_limit_together(pages: Pages, headers: list[str]) -> None:
    assert statuses(pages, question(pages, "GET /", *headers)) == [431]


@pytest.mark.parametrize(
    "path",
    [
        "/jobs%0d%0aX-Evil:%201",
        "/jobs/%0d%0aX-Evil:%201/",
        "//evil.example/%0d%0aX-Evil:1",
        "/jobs/%00/",
    ],
)
def test_no_path_ends_a_line_of_an_answer(pages: Pages, path: str) -> None:
    said = answers(pages, question(pages, f"GET {path}"))
    head = said.partition(b"\r\n\r\n")[0]
    assert said.startswith(b"HTTP/1.1 404 ") and b"\r\nX-Evil" not in head


@pytest.mark.parametrize(("length", "status"), [(1_000_000, 431), (60_000, 200)])
def test_what_is_searched_for_has_a_limit(pages: Pages, length: int, status: int) -> None:
    assert statuses(pages, question(pages, f"GET /jobs/?q={'x' * length}")) == [status]


@pytest.mark.parametrize(
    "asks",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: a\r\nConnection: close\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused(pages: Pages, asks: bytes) -> None:
    assert statuses(pages, asks) == [400]


def test_the_head_of_an_answer_alone_is_sent_alone(pages: Pages) -> None:
    whole, head = (answers(pages, question(pages, f"{m} /jobs/")) for m in ("GET", "HEAD"))
    assert head.partition(b"\r\n\r\n")[2] == b""
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])  # type: ignore[index]
    assert length == len(whole.partition(b"\r\n\r\n")[2]) > 1000
