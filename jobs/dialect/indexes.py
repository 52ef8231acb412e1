"""Indexes of a table that is in use."""

from __future__ import annotations

from typing import Any

from django.db import migrations

_SCHEMA = (
    "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE pg_class.oid = to_regclass(%s)"
)
"""Of a table, as its name is found now."""


class AddIndexBesideWriters(migrations.AddIndex):
    """On PostgreSQL the index is made, and dropped, while others write to the table.

    Outside a transaction, so a try that was cut short leaves something behind: an index, whole or half
    made, that is not written down. The next one drops it first.

    Django's own AddIndexConcurrently cannot be imported where psycopg is missing.
    """

    atomic = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            self._drop(schema_editor, model)
            schema_editor.add_index(model, self.index, **self._how(schema_editor))

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            self._drop(schema_editor, model)

    def _drop(self, schema_editor: Any, model: Any) -> None:
        name = schema_editor.quote_name(self.index.name)
        concurrently = ""
        if self._how(schema_editor):
            # The name alone may be found in another schema of the path, as another site's.
            with schema_editor.connection.cursor() as cursor:
                table = schema_editor.quote_name(model._meta.db_table)
                cursor.execute(_SCHEMA, [table])
                for (schema,) in cursor.fetchall():
                    name = f"{schema_editor.quote_name(schema)}.{name}"
            concurrently = " CONCURRENTLY"
        schema_editor.execute(f"DROP INDEX{concurrently} IF EXISTS {name}")

    def _how(self, schema_editor: Any) -> dict[str, bool]:
        return {"concurrently": True} if schema_editor.connection.vendor == "postgresql" else {}
