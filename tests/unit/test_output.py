import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.execution.output import Capture
from jobs.outcome import Captured


def captured(pieces: list[bytes], limit: int) -> Captured:
    capture = Capture(limit)
    for piece in pieces:
        capture.add(piece)
    return capture.captured()


@st.composite
def splits(draw: st.DrawFn) -> list[bytes]:
    stream = draw(st.binary(max_size=200))
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=12)) | {0, len(stream)})
    return [stream[start:end] for start, end in pairwise(cuts)]


@given(splits(), st.integers(min_value=2, max_value=64))
def test_head_and_tail_are_the_ends_of_the_stream_however_it_came(
    pieces: list[bytes], limit: int
) -> None:
    stream = b"".join(pieces)
    found = captured(pieces, limit)
    head, tail = stream[: limit - limit // 2], stream[limit - limit // 2 :][-(limit // 2) :]
    assert found == Captured(head, tail, len(stream))


@given(splits(), st.integers(min_value=2, max_value=64))
def test_no_more_than_the_limit_is_kept(pieces: list[bytes], limit: int) -> None:
    assert captured(pieces, limit).kept <= limit


@given(splits())
def test_a_stream_that_fits_is_kept_whole(pieces: list[bytes]) -> None:
    found = captured(pieces, 1024)
    assert found.head + found.tail == b"".join(pieces)


@pytest.mark.parametrize("limit", [0, 1])
def test_a_limit_too_small_for_a_tail_still_counts(limit: int) -> None:
    found = captured([b"abc", b"def"], limit)
    assert (found.kept, found.total) == (limit, 6)


@pytest.mark.parametrize("size", [2, 100, 65_536])
def test_a_flood_is_held_in_a_small_multiple_of_the_limit(size: int) -> None:
    limit = 262_144
    tracemalloc.start()
    try:
        capture = Capture(limit)
        for index in range(2 * limit // size):
            capture.add(bytes([index % 256]) * size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * limit + 2 * size
