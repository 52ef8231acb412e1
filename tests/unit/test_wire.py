import marshal
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.outcome import Captured, Kind, Obstacle, Outcome
from jobs.work import About, Run
from jobs.worker import wire
from jobs.worker.wire import Channel, Closed
from tests.unit.builders import work

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FRAMES = st.lists(st.tuples(st.sampled_from(["run", "ended", "é"]), VALUES), max_size=5)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    left, right = (Channel(sock) for sock in wire.pair())
    yield left, right
    left.close()
    right.close()


def framed(body: bytes) -> bytes:
    return struct.pack("!I", len(body)) + body


def received(channel: Channel, number: int) -> list[tuple[Any, ...]]:
    frames: list[tuple[Any, ...]] = []
    channel.socket.settimeout(None)
    while len(frames) < number:
        frames += channel.receive()
    return frames


@given(frames=FRAMES, data=st.data())
def test_frames_split_anywhere_arrive_whole_and_in_order(
    frames: list[tuple[str, Any]], data: st.DataObject
) -> None:
    stream = b"".join(framed(marshal.dumps(frame)) for frame in frames)
    cuts = data.draw(st.sets(st.integers(0, len(stream)), max_size=8))
    near, far = wire.pair()
    with near:
        channel, found = Channel(far), []
        for start, end in pairwise(sorted(cuts | {0, len(stream)})):
            near.sendall(stream[start:end])
            if end > start:
                found += channel.receive()
        channel.close()
    assert found == frames


def test_what_is_sent_is_received(ends: tuple[Channel, Channel]) -> None:
    ends[0].send("run", [1, b"x", {"a": None}], 2.5)
    ends[0].send("drain", 0.0)
    assert ends[1].receive() == [("run", [1, b"x", {"a": None}], 2.5), ("drain", 0.0)]


def test_nothing_sent_is_no_frame_and_no_wait(ends: tuple[Channel, Channel]) -> None:
    assert ends[1].receive() == []


def test_more_than_a_socket_takes_waits_in_the_outbox(ends: tuple[Channel, Channel]) -> None:
    ends[0].send("ended", b"x" * 5_000_000)
    assert ends[0].wants_write


def test_two_ends_that_both_send_much_do_not_stand_still(ends: tuple[Channel, Channel]) -> None:
    bodies = [b"a" * 5_000_000, b"b" * 5_000_000]
    for end, body in zip(ends, bodies, strict=True):
        end.send("ended", body)
    found: list[list[Any]] = [[], []]
    for _ in range(1000):
        for end, frames in zip(ends, found, strict=True):
            end.flush()
            frames += end.receive()
    assert found == [[("ended", bodies[1])], [("ended", bodies[0])]]
    assert not ends[0].wants_write


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff" * 8,
        struct.pack("!I", 2**31),
        framed(b"\xff\xff\xff"),
        framed(b""),
        framed(marshal.dumps(("run",))[:-1]),
        framed(marshal.dumps(5)),
        framed(marshal.dumps(None)),
        framed(marshal.dumps(())),
        framed(b"GET / HTTP/1.1\r\n"),
    ],
    ids=ascii,
)
def test_what_is_no_frame_counts_as_the_others_end(
    ends: tuple[Channel, Channel], stream: bytes
) -> None:
    ends[0].socket.sendall(stream)
    with pytest.raises(Closed):
        ends[1].receive()


def test_all_that_was_said_is_heard_before_the_end(ends: tuple[Channel, Channel]) -> None:
    ends[0].send("started", 1)
    ends[0].close()
    assert ends[1].receive() == [("started", 1)]
    with pytest.raises(Closed):
        ends[1].receive()


def test_sending_to_nobody_says_so(ends: tuple[Channel, Channel]) -> None:
    ends[1].close()
    with pytest.raises(Closed):
        for _ in range(3):
            ends[0].send("run", b"x")


def test_descriptors_pass_in_order_with_their_frames(ends: tuple[Channel, Channel]) -> None:
    pipes = [os.pipe() for _ in range(3)]
    for index, (_, writing) in enumerate(pipes):
        ends[0].send_with_fd(writing, wire.REPLACED, index)
        os.close(writing)
    frames: list[tuple[Any, ...]] = []
    while len(frames) < 3:
        frames += ends[1].receive()
    assert [values for _, *values in frames] == [[0], [1], [2]]
    for index, fd in enumerate(ends[1].passed):
        assert fd is not None
        os.write(fd, b"%d" % index)
        os.close(fd)
    assert [os.read(reading, 9) for reading, _ in pipes] == [b"0", b"1", b"2"]
    for reading, _ in pipes:
        os.close(reading)


@pytest.mark.skipif(sys.platform != "linux", reason="others may say it in another way")
def test_a_descriptor_for_which_there_is_no_room_is_missed_in_its_place(
    ends: tuple[Channel, Channel],
) -> None:
    for index in range(3):
        ends[0].send_with_fd(0, wire.REPLACED, index)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    frames = ends[1].receive()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        frames += ends[1].receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    frames += ends[1].receive()
    assert [values for _, *values in frames] == [[0], [1], [2]]
    first, second, third = ends[1].passed
    assert second is None and first is not None and third is not None
    os.close(first)
    os.close(third)


def test_a_passed_descriptor_is_not_for_commands(ends: tuple[Channel, Channel]) -> None:
    near, far = socket.socketpair()
    with near, far:
        ends[0].send_with_fd(near.fileno(), wire.REPLACED, 0)
        ends[1].receive()
        (fd,) = ends[1].passed
        assert fd is not None
        assert not os.get_inheritable(fd)
        os.close(fd)


RUN = Run(1.5, "failed", "OSError: é", "Traceback", "worker1")


@pytest.mark.parametrize(
    "about",
    [None, About("mail", 7, None, 1.5), About("mail", 7, 1.5, 1.5, (RUN,))],
)
def test_a_work_survives_the_wire(ends: tuple[Channel, Channel], about: About | None) -> None:
    given_work = work(
        argv=["a", "é"], env={"A": "b"}, timeout=None, losses=2, cancel_requested=True, about=about
    )
    ends[0].send(wire.RUN, [wire.from_work(given_work)])
    ((_, works),) = ends[1].receive()
    assert wire.to_work(works[0]) == given_work


@pytest.mark.parametrize("kind", Kind)
def test_an_outcome_survives_the_wire(ends: tuple[Channel, Channel], kind: Kind) -> None:
    plain = Outcome(kind=kind)
    full = plain._replace(
        error="é\0\udcff", exit_code=3, signal=9, started=1.5, ended=2.5, cpu_seconds=0.1,
        peak_memory_bytes=2**40, stdout=Captured(b"\xff", b"t", 2**40), stderr=Captured(b"", b"", 0),
        obstacle=Obstacle.SHORT,
    )  # fmt: skip
    ends[0].send(wire.ENDED, [("x", wire.from_outcome(o)) for o in (plain, full)])
    ((_, pairs),) = ends[1].receive()
    assert [wire.to_outcome(values) for _, values in pairs] == [plain, full]
