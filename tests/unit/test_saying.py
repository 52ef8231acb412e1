"""What a worker's processes say never waits for whoever reads it."""

import logging
import os
import pty
import re
import select
import socket
import sys
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from jobs.worker import saying


class Reader:
    """Somebody who reads what is said, or does not."""

    def __init__(self, ours: int, theirs: int) -> None:
        self.ours, self.stream = ours, os.fdopen(theirs, "w", encoding="utf-8")

    def read(self) -> str:
        said = b""
        while select.select([self.ours], [], [], 0.1)[0]:
            said += os.read(self.ours, 65_536)
        return said.decode().replace("\r\n", "\n")

    def close(self) -> None:
        os.close(self.ours)
        self.stream.close()


def through_pipe() -> Reader:
    return Reader(*os.pipe())


def through_terminal() -> Reader:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    return Reader(ours, theirs)


@pytest.fixture(params=[through_pipe, through_terminal], ids=["pipe", "terminal"])
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    reader = request.param()
    yield reader
    saying.wait_again()
    reader.close()


def say(stream: TextIO, lines: int) -> None:
    for number in range(lines):
        print(f"line {number:03}" + "." * 990, file=stream)


def test_what_there_is_no_room_for_is_left_out_and_told_of_later(reader: Reader) -> None:
    stream = saying.instead(reader.stream)
    say(stream, 500)
    said = reader.read()
    assert said.startswith("line 000") and said.count(".\n") < 500
    print("after that", file=stream)
    said += reader.read()
    # A terminal takes what it was given a moment later, and then has room in between.
    left_out = sum(map(int, re.findall("nobody read: ([0-9]+) lines", said)))
    assert left_out and said.endswith(" lines)\nafter that\n")
    assert said.count(".\n") + left_out == 500
    print("and then", file=stream)
    assert reader.read() == "and then\n"


def test_a_line_longer_than_there_is_room_for_makes_nobody_wait(reader: Reader) -> None:
    stream = saying.instead(reader.stream)
    print("x" * 1_000_000, file=stream)
    assert 0 < len(reader.read()) < 1_000_000
    print("after that", file=stream)
    assert reader.read() == f"{saying.LEFT_OUT.format(1)}after that\n"


def test_others_who_have_the_stream_open_wait_as_before(reader: Reader) -> None:
    say(saying.instead(reader.stream), 1)
    assert os.get_blocking(reader.stream.fileno())


def test_what_has_no_end_of_a_line_is_said_when_it_is_flushed(reader: Reader) -> None:
    stream = saying.instead(reader.stream)
    stream.write("a word")
    assert reader.read() == ""
    stream.flush()
    assert reader.read() == "a word"


def test_logs_and_prints_of_a_worker_make_it_wait_for_nobody(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", reader.stream)
    logger, handler = logging.getLogger("jobs.said"), logging.StreamHandler(reader.stream)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    with saying.waiting_for_nobody():
        say(sys.stderr, 500)
        logger.error("heard by nobody")
        reader.read()
        logger.error("heard again")
        assert reader.read().endswith(" lines)\nheard again\n")
    assert sys.stderr is handler.stream is reader.stream


def test_a_log_that_has_opened_another_file_keeps_it(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    logger, waits = logging.getLogger("jobs.said"), logging.FileHandler(tmp_path / "a", delay=True)
    turns = logging.StreamHandler(reader.stream)
    monkeypatch.setattr(logger, "handlers", [waits, turns])
    with (tmp_path / "b").open("w") as other:
        with saying.waiting_for_nobody():
            logger.error("opens it")
            turns.setStream(other)
        assert waits.stream is not None
        assert turns.stream is other
        waits.close()


def test_a_socket_that_nobody_reads_makes_nobody_wait() -> None:
    ours, theirs = socket.socketpair()
    reader = Reader(ours.detach(), theirs.detach())
    say(saying.instead(reader.stream), 1000)
    assert 0 < reader.read().count(".\n") < 1000
    saying.wait_again()
    reader.close()


def test_a_file_is_written_to_as_it_is(tmp_path: os.PathLike[str]) -> None:
    with open(os.path.join(tmp_path, "log"), "w") as file:
        assert saying.instead(file) is file
