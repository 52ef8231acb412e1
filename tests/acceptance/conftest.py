from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.databases import Databases
from tests.acceptance.served import Pages
from tests.acceptance.site import Site


@pytest.fixture
def site(site_databases: Databases, tmp_path: Path) -> Iterator[Site]:
    """A fresh, migrated database and the programs run on it; all it started ends with the test."""
    site = Site(site_databases, tmp_path)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def quick(site: Site) -> Site:
    """A site whose leases, heartbeats and patience last seconds instead of a minute."""
    site.hurry()
    return site


@pytest.fixture
def pages(site: Site) -> Iterator[Pages]:
    """Its pages, as `queuectl web` serves them; nothing done to them may leave a traceback in its log."""
    pages = Pages(site)
    try:
        pages.make_person()
        pages.log_in()
        yield pages
        assert "Traceback" not in pages.log
    finally:
        pages.close()
