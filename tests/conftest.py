import os
import signal
from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.acceptance.databases import Databases, shared_databases

# Ignored in the background of a script, or under nohup, these would be for all that tests start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def site_databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Copies of one migrated database, which all processes of a run share."""
    url, own = os.environ.get("DATABASE_URL", ""), tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with shared_databases(url, tmp_path_factory.mktemp("sites"), shared) as source:
        yield source


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: DjangoDbBlocker, site_databases: Databases
) -> Iterator[None]:
    """A file on SQLite: several processes, locks and WAL do not exist in memory."""
    from django.db import connection

    url = site_databases.new(fresh=True)
    name = (
        url.removeprefix("sqlite:///") if connection.vendor == "sqlite" else url.rpartition("/")[2]
    )
    with django_db_blocker.unblock():
        connection.close()
        # One dictionary for the settings and the connection.
        connection.settings_dict["NAME"] = name
        yield
        connection.close()
    site_databases.drop(url)


@pytest.fixture(autouse=True)
def no_refusals_yet() -> None:
    """What one test was refused is not remembered in the next."""
    from jobs.operations import refusals

    refusals.forget()


def pytest_report_header() -> str:
    import django
    from django.db import connection

    return f"django: {django.__version__}, database: {connection.vendor}"
