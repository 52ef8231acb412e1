from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from whitenoise.base import WhiteNoise

from jobs import dialect
from jobs.exceptions import TooBroad
from tests.integration.builders import make_queues
from tests.integration.ledgers import Busy


@pytest.fixture(scope="session", autouse=True)
def static_files_are_looked_at_once() -> Iterator[None]:
    """Every test client makes the middleware anew, and that looks at 130 files: 12 ms each."""
    inner, known = WhiteNoise.get_static_file, dict[tuple[str, str], Any]()

    def get_static_file(self: WhiteNoise, path: str, url: str, stat_cache: Any = None) -> Any:
        if (path, url) not in known:
            known[path, url] = inner(self, path, url, stat_cache)
        return known[path, url]

    with patch.object(WhiteNoise, "get_static_file", get_static_file):
        yield


@pytest.fixture
def busy() -> Iterator[Busy]:
    """For tests that may use the database."""
    make_queues("default")
    busy = Busy()
    yield busy
    busy.close()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for takes longer than anybody waits."""

    @contextmanager
    def deadline(seconds: float) -> Iterator[None]:
        raise TooBroad
        yield

    monkeypatch.setattr(dialect, "deadline", deadline)
