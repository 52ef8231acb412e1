from pathlib import Path

import pytest
from django.conf import settings


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    tmp_path_factory: pytest.TempPathFactory,
    django_db_modify_db_settings_parallel_suffix: None,
) -> None:
    """A file on SQLite: several processes, locks and WAL do not exist in memory."""
    database = settings.DATABASES["default"]
    if database["ENGINE"] == "django.db.backends.sqlite3":
        directory: Path = tmp_path_factory.mktemp("database")
        database["TEST"]["NAME"] = str(directory / "test.sqlite3")


@pytest.fixture(autouse=True)
def no_refusals_yet() -> None:
    """What one test was refused is not remembered in the next."""
    from jobs.operations import refusals

    refusals.forget()


def pytest_report_header() -> str:
    import django
    from django.db import connection

    return f"django: {django.__version__}, database: {connection.vendor}"
