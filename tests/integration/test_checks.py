"""What `manage.py check` says of the database and the settings of the site."""

from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections, router
from django.db.models import Model
from django.test import override_settings

from jobs import checks, dialect
from jobs.models import Job
from tests import task_functions


def ids(found: list[Any]) -> list[str]:
    assert all(message.hint for message in found)
    return [message.id for message in found]


def test_a_sound_site_has_nothing_to_hear() -> None:
    assert checks.database_is_one_we_know() == checks.times_are_aware() == []


@pytest.mark.one_database
def test_a_database_that_is_not_there_is_named() -> None:
    with override_settings(QUEUECTL={"DATABASE": "quue"}):
        [error] = checks.settings_are_sound()
        assert checks.database_is_one_we_know() == []
        assert checks.tables_are_of_this_version(databases=["quue"]) == []
    assert error.id == "queuectl.E001"
    assert "'quue'" in error.msg and "default" in error.msg


@pytest.mark.one_database
def test_a_database_of_another_kind_is_refused() -> None:
    with patch.object(connections["default"], "vendor", "mysql"):
        [error] = found = checks.database_is_one_we_know()
    assert ids(found) == ["queuectl.E005"]
    assert "mysql" in error.msg


class Replica:
    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return "replica"


@pytest.mark.parametrize("path", [False, True])
def test_a_site_that_overrides_the_routers_in_a_test_keeps_ours_first(path: bool) -> None:
    given = f"{__name__}.Replica" if path else Replica()
    for _ in range(2):
        with override_settings(DATABASE_ROUTERS=[given]):
            assert checks.database_is_one_we_know() == []
            assert router.db_for_read(Permission) == "replica"
            assert len(router.routers) == 2
        assert checks.database_is_one_we_know() == []
        assert router.db_for_read(Permission) == "default"
        assert len(router.routers) == 1


def test_routers_that_are_set_by_hand_come_after_ours() -> None:
    with patch.object(router, "routers", [Replica(), *router.routers, Replica()]):
        assert checks.database_is_one_we_know() == []
        assert len(router.routers) == 3
    assert len(router.routers) == 1


def test_models_that_go_elsewhere_are_refused() -> None:
    """Another app has put its router before ours in the list itself."""
    replica = Replica()
    router.routers.insert(0, replica)
    try:
        [error] = found = checks.database_is_one_we_know()
    finally:
        router.routers.remove(replica)
    assert ids(found) == ["queuectl.E007"]
    assert "'replica'" in error.msg and "'default'" in error.msg


@pytest.mark.django_db
def test_missing_migrations_are_named_by_a_check_of_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert checks.tables_are_of_this_version(databases=["default"]) == []
    with patch.object(dialect, "unapplied", lambda app: ["0002_later"]):
        assert checks.tables_are_of_this_version() == []
        with pytest.raises(SystemCheckError) as caught:
            call_command(
                "check",
                databases=["default"],
                fail_level="WARNING",
                stdout=StringIO(),
                stderr=StringIO(),
            )
        monkeypatch.setattr("sys.argv", ["manage.py", "migrate"])
        assert checks.tables_are_of_this_version(databases=["default"]) == []
    said = str(caught.value)
    assert "queuectl.W002" in said and "0002_later" in said and "manage.py migrate\n" in said


@pytest.mark.django_db
def test_times_without_a_zone_are_refused_in_one_sentence() -> None:
    with override_settings(USE_TZ=False):
        assert ids(checks.times_are_aware()) == ["queuectl.E006"]
        with pytest.raises(ImproperlyConfigured, match="USE_TZ = True"):
            task_functions.noop.enqueue()
    assert not Job.objects.exists()
