import json
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import MagicMock, patch
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.test import override_settings

from jobs import dialect
from jobs.exceptions import TooBroad
from jobs.models import Job, Output
from tests.integration.builders import NOW, make_job, make_jobs, make_worker, new_job

pytestmark = pytest.mark.django_db

ODD = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def update(columns: list[str], guard: list[str], *rows: tuple[Any, ...]) -> set[int]:
    return dialect.update_rows(Job, columns=columns, guard=guard, rows=rows)


COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {}) SELECT count(*) FROM n"


def take_long(seconds: float) -> None:
    """Keep the database at work; a million a second is what SQLite does."""
    slow = f"SELECT pg_sleep({seconds})"
    with connection.cursor() as cursor:
        cursor.execute(slow if dialect.can_notify() else COUNTING.format(int(seconds * 10**6)))


def test_what_takes_longer_than_its_deadline_is_cut_short() -> None:
    began = time.monotonic()
    with pytest.raises(TooBroad), dialect.deadline(0.1):
        take_long(60)
    assert time.monotonic() - began < 5
    assert Job.objects.count() == 0, "the caller's transaction goes on"


def test_a_deadline_ends_with_its_block() -> None:
    with dialect.deadline(0.05):
        make_job()
    take_long(0.5)
    assert Job.objects.count() == 1


def test_a_site_may_allow_less_than_a_deadline() -> None:
    if not dialect.can_notify():
        pytest.skip("SQLite has no such setting")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = '100ms'")
        with pytest.raises(TooBroad), dialect.deadline(60):
            take_long(60)
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("100ms",)


def test_other_trouble_within_a_deadline_is_told_as_it_is() -> None:
    with pytest.raises(OperationalError, match="no"), dialect.deadline(60):
        raise OperationalError("no")


def test_each_row_gets_its_own_values() -> None:
    first, second = make_jobs(2)
    update(["priority", "last_error"], [], (first.id, 1, "a"), (second.id, 2, "b"))
    found = Job.objects.order_by("id").values_list("priority", "last_error")
    assert list(found) == [(1, "a"), (2, "b")]


def test_only_rows_that_meet_their_guard_are_changed_and_told() -> None:
    first, second = make_job(priority=1), make_job(priority=2)
    matched = update(["priority"], ["priority"], (first.id, 9, 1), (second.id, 9, 1))
    assert matched == {first.id}
    assert list(Job.objects.order_by("id").values_list("priority", flat=True)) == [9, 2]


def test_every_guard_counts() -> None:
    job = make_job(priority=1, queue="a")
    assert update(["priority"], ["priority", "queue"], (job.id, 9, 1, "b")) == set()


def test_a_row_that_is_not_there_is_not_told() -> None:
    assert update(["priority"], [], (10**9, 1)) == set()


def test_rows_that_are_not_named_stay_as_they_are() -> None:
    first, second = make_jobs(2)
    update(["priority"], [], (first.id, 9))
    second.refresh_from_db()
    assert second.priority == 5


def test_no_rows_no_statement() -> None:
    assert update(["priority"], []) == set()
    dialect.insert_rows(Output, columns=["data"], rows=[])


VALUES: list[tuple[str, Any]] = [
    ("last_error", ""),
    ("last_error", "é ' \" % %s \\ 名 \U0001f600"),
    ("priority", -(2**31)),
    ("timeout", 0.1),
    ("timeout", None),
    ("run_at", ODD),
    ("run_at", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ("run_at", None),
    ("prefetchable", False),
    ("unique_key", None),
    ("argv", None),
]


@pytest.mark.parametrize(("column", "value"), VALUES, ids=lambda value: ascii(value)[:24])
def test_a_value_is_read_back_as_it_was_written(column: str, value: Any) -> None:
    job = make_job()
    update([column], [], (job.id, value))
    job.refresh_from_db()
    assert getattr(job, column) == value


def test_a_null_and_a_value_go_in_one_statement() -> None:
    first, second = make_jobs(2)
    update(["run_at"], [], (first.id, None), (second.id, NOW))
    assert list(Job.objects.order_by("id").values_list("run_at", flat=True)) == [None, NOW]


def test_json_that_python_takes_for_equal_stays_two_things() -> None:
    first, second = make_job(result=0), make_job(result=0)
    update(["result"], [], (first.id, [1, 0]), (second.id, [True, False]))
    found = [json.dumps(job.result) for job in Job.objects.order_by("id")]
    assert found == ["[1, 0]", "[true, false]"]


@pytest.mark.parametrize("number", [1, 2, dialect.bulk.MOST_ROWS + 1])
def test_every_field_of_inserted_rows_is_kept(number: int) -> None:
    worker = make_worker()
    same = {"state": "processing", "lease": uuid4(), "worker_id": worker.id, "run_at": ODD}
    rows = [
        new_job(
            **same, key=f"é{i}", priority=-i, timeout=i / 7, env={"A": str(i)}, argv=[True, 1, f"{i}"],
            result=None if i % 2 else {"n": i},
        )
        for i in range(number)
    ]  # fmt: skip
    fields = [field for field in Job._meta.concrete_fields if not field.primary_key]
    dialect.insert_rows(
        Job,
        columns=[field.name for field in fields],
        rows=[[getattr(row, field.attname) for field in fields] for row in rows],
    )
    names = [field.attname for field in fields]
    found = list(Job.objects.order_by("id").values_list(*names))
    assert found == [tuple(getattr(row, name) for name in names) for row in rows]


def test_numbers_times_and_tokens_that_differ_are_kept_to_the_last_digit() -> None:
    worker, tokens = make_worker(), [uuid4(), None]
    leap = datetime(2028, 2, 29, 23, 59, 59, 1, tzinfo=timezone(timedelta(hours=-11)))
    jobs = make_jobs(5)
    given = [
        (0.1 + 0.2, ODD, -(2**31), tokens[0]),
        (1e-300, leap, 2**31 - 1, tokens[1]),
        (1.7976931348623157e308, None, 0, tokens[1]),
        (None, datetime(1, 1, 2, tzinfo=UTC), 1, tokens[1]),
        (-5, datetime(9999, 12, 30, tzinfo=UTC), 2, tokens[1]),
    ]
    rows = [
        (job.id, timeout, run_at, priority, "processing" if lease else "pending", lease, lease and worker.id)
        for job, (timeout, run_at, priority, lease) in zip(jobs, given, strict=True)
    ]  # fmt: skip
    update(["timeout", "run_at", "priority", "state", "lease", "worker"], [], *rows)
    found = Job.objects.order_by("id").values_list("timeout", "run_at", "priority", "lease")
    assert list(found) == given


def test_a_column_that_is_not_there_is_an_error_and_not_its_own_name() -> None:
    """As which SQLite reads a quoted name that it does not know: a worker beside a migration taken back."""
    make_job()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE queuectl_job RENAME COLUMN put_off_since TO another")
    with pytest.raises(DatabaseError) as caught:
        dialect.pending(Job, ["put_off_since"], "default", 1)
    assert dialect.is_not_migrated(caught.value)


def test_a_uuid_is_a_guard_and_a_value() -> None:
    worker, lease, other = make_worker(), uuid4(), uuid4()
    job = make_job(state="processing", worker=worker, lease=lease)
    assert update(["lease"], ["lease"], (job.id, UUID(int=1), other)) == set()
    assert update(["lease", "worker"], ["lease"], (job.id, other, worker.id, lease)) == {job.id}
    job.refresh_from_db()
    assert (job.lease, job.worker_id) == (other, worker.id)


def test_a_datetime_is_a_guard() -> None:
    job = make_job(due_at=ODD)
    assert update(["priority"], ["due_at"], (job.id, 1, ODD)) == {job.id}


def test_inserted_rows_hold_any_bytes() -> None:
    job, data = make_job(), bytes(range(256))
    columns = ["job", "attempt", "stream", "sequence", "offset", "data"]
    rows = [(job.id, 1, 1, 0, 2**40, data), (job.id, 1, 1, 1, 0, b"")]
    dialect.insert_rows(Output, columns=columns, rows=rows)
    found = Output.objects.order_by("sequence").values_list("offset", "data")
    assert [(offset, bytes(stored)) for offset, stored in found] == [(2**40, data), (0, b"")]


def test_many_rows_are_inserted_and_updated() -> None:
    job = make_job()
    columns = ["job", "attempt", "stream", "sequence", "offset", "data"]
    dialect.insert_rows(
        Output, columns=columns, rows=[(job.id, 1, 1, i, i, b"x") for i in range(3000)]
    )
    assert Output.objects.count() == 3000
    ids = list(Output.objects.values_list("id", flat=True))
    rows = [(key, b"y") for key in ids]
    assert dialect.update_rows(Output, columns=["data"], guard=[], rows=rows) == set(ids)


def test_the_databases_time_goes_on_within_a_transaction() -> None:
    with dialect.atomic():
        moments = [dialect.now() for _ in range(50)]
    assert moments == sorted(moments) and moments[0] < moments[-1]


def test_the_databases_time_is_the_time_in_utc() -> None:
    now = dialect.now()
    assert now.utcoffset() == timedelta(0)
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.django_db(transaction=True)
def test_a_turn_is_one_transaction_that_knows_the_time() -> None:
    before = dialect.now()
    with pytest.raises(ZeroDivisionError), dialect.turn() as now:
        assert before <= now <= dialect.now()
        make_job()
        raise ZeroDivisionError
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_bounds_of_a_turn_end_with_it() -> None:
    if dialect.workers_share_a_host():
        return  # SQLite's bound is the connection's own
    with dialect.turn(), connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == (f"{dialect.STATEMENT_SECONDS}s",)
        # The server ends a turn that stands still before its worker's lease runs out.
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("5s",)
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.parametrize(
    ("error", "trouble", "bad_data"),
    [
        (OperationalError("database is locked"), True, False),
        (InterfaceError("connection already closed"), True, False),
        (DataError("value too long"), False, True),
        (OperationalError("Could not decode to UTF-8 column 'key' with text 'a'"), True, True),
        (IntegrityError("CHECK constraint failed"), False, True),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"), False, True),
        (OverflowError("int too large"), False, True),
        (KeyError("lease"), False, False),
    ],
    ids=repr,
)
def test_an_error_is_the_databases_or_the_rows_or_ours(
    error: Exception, trouble: bool, bad_data: bool
) -> None:
    assert (dialect.is_trouble(error), dialect.is_bad_data(error)) == (trouble, bad_data)


@pytest.mark.django_db(transaction=True)
def test_another_connections_commit_is_seen_in_the_version() -> None:
    if not dialect.workers_share_a_host():
        return  # PostgreSQL says so by NOTIFY
    from threading import Thread

    def commit() -> None:
        make_job()
        connections.close_all()

    before = dialect.data_version()
    make_job()
    assert dialect.data_version() == before
    thread = Thread(target=commit)
    thread.start()
    thread.join()
    assert dialect.data_version() != before


@pytest.mark.django_db(transaction=True)
def test_a_committed_notification_reaches_a_listener_and_no_other_does() -> None:
    if not dialect.can_notify():
        return  # SQLite is watched by its file
    listener = dialect.listener()
    try:
        with pytest.raises(ZeroDivisionError), dialect.atomic():
            dialect.notify()
            raise ZeroDivisionError
        assert list(listener.notifies(timeout=0.1)) == []
        with dialect.atomic():
            dialect.notify()
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1
    finally:
        listener.close()


@pytest.mark.django_db(transaction=True)
def test_a_listener_that_may_not_listen_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    if not dialect.can_notify():
        return
    made: list[psycopg.Connection] = []

    def no_time(connection: psycopg.Connection, statement: str) -> None:
        made.append(connection)
        raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")

    monkeypatch.setattr(psycopg.Connection, "execute", no_time)
    with pytest.raises(psycopg.errors.QueryCanceled):
        dialect.listener()
    assert made[0].closed


@pytest.mark.django_db(transaction=True)
def test_a_listener_goes_to_the_server_itself_where_the_site_goes_to_a_pooler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not dialect.can_notify():
        return
    connection.ensure_connection()
    site = connection.settings_dict
    itself = f"{site['HOST']}:{site['PORT']}"
    monkeypatch.setitem(site, "HOST", "127.0.0.1")
    monkeypatch.setitem(site, "PORT", "1")  # nobody is there
    with pytest.raises(psycopg.OperationalError):
        connection.get_new_connection(connection.get_connection_params())
    with override_settings(QUEUECTL={"LISTEN_AT": itself}):
        listener = dialect.listener()
    try:
        with dialect.atomic():
            dialect.notify()
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1
    finally:
        listener.close()


@pytest.mark.parametrize(("given", "port"), [("db", "5432"), ("db:6000", "6000"), ("", "6543")])
def test_the_port_of_a_pooler_is_not_that_of_the_server_behind_it(
    monkeypatch: pytest.MonkeyPatch, given: str, port: str
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(psycopg, "connect", lambda **where: seen.update(where) or MagicMock())
    pooler = {"host": "pooler", "hostaddr": "192.0.2.1", "port": "6543", "dbname": "site"}
    monkeypatch.setattr(connection, "get_connection_params", lambda: dict(pooler))
    with override_settings(QUEUECTL={"LISTEN_AT": given}):
        dialect.listener()
    assert (seen["port"], seen["dbname"]) == (port, "site")
    assert (seen["host"], seen["hostaddr"]) == (("db", None) if given else ("pooler", "192.0.2.1"))


def test_a_ledger_keeps_one_connection_where_the_site_has_a_pool() -> None:
    if not dialect.can_notify():
        return  # only PostgreSQL has pools
    base = connections["default"]
    options = {**base.settings_dict["OPTIONS"], "pool": {"min_size": 2}}
    site = {**base.settings_dict, "CONN_MAX_AGE": 0, "OPTIONS": options}
    with (
        patch.object(base, "settings_dict", site),
        patch.object(base, "make_debug_cursor", base.make_debug_cursor),
    ):
        dialect.bound_waits()
        assert "pool" not in site["OPTIONS"]
        base.get_new_connection(base.get_connection_params()).close()
    assert options["pool"] == {"min_size": 2}, "the site's own options stay as they are"


def test_a_ledgers_turns_are_read_committed_where_all_else_is_serializable() -> None:
    if not dialect.can_notify():
        return  # on SQLite there is one writer
    base = connections["default"]
    options = {
        **base.settings_dict["OPTIONS"],
        "options": "-c default_transaction_isolation=serializable",
    }

    def isolation() -> str:
        with closing(base.get_new_connection(base.get_connection_params())) as fresh:
            return str(fresh.execute("SHOW transaction_isolation").fetchone()[0])

    with (
        patch.object(base, "settings_dict", {**base.settings_dict, "OPTIONS": options}),
        patch.object(base, "make_debug_cursor", base.make_debug_cursor),
    ):
        before = isolation()
        dialect.bound_waits()
        assert (before, isolation()) == ("serializable", "read committed")


def test_a_description_of_the_database_never_shows_a_password() -> None:
    password = connection.settings_dict.get("PASSWORD") or "no password at all"
    assert password not in dialect.describe()


def test_a_missing_table_is_not_migrated_and_a_wrong_value_is_something_else() -> None:
    with (
        pytest.raises(DatabaseError) as missing,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 1 FROM no_such_table_at_all")
    assert dialect.is_not_migrated(missing.value)
    assert not dialect.is_not_migrated(OperationalError('database "x" does not exist'))
