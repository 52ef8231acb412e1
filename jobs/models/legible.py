"""Rows that a hand has edited: SQLite keeps any value in any column, and whoever reads must not fall."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Self, TypeVar

from django.core.exceptions import ValidationError
from django.db import DatabaseError, DataError, models
from django.db.models import Value
from django.db.models.constants import LOOKUP_SEP
from django.db.models.query import ModelIterable

from .. import dialect
from ..exceptions import UnreadableRow

logger = logging.getLogger(__name__)

M = TypeVar("M", bound="Legible")

_TEXTS = (models.CharField, models.TextField)
_WHOLE = (models.IntegerField, models.ForeignKey)
_NUMBERS = (*_WHOLE, models.FloatField)
_CONVERTED = (models.DateTimeField, models.UUIDField, models.JSONField)
"""Made of what is stored before a model sees it, which fails where that is none."""

_FAILURES = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What comes of a value that nothing on its way has thought of."""


class LegibleQuerySet(models.QuerySet[M]):
    """Rows of a table in which a hand may have edited anything; see Legible.

    Raises UnreadableRow where that does not help, and for rows of `values_list`.
    """

    def iterator(self, chunk_size: int | None = None) -> Iterator[M]:
        return self._legible(super().iterator(chunk_size))

    def _legible(self, rows: Iterator[M]) -> Iterator[M]:
        try:
            yield from rows
        except (*_FAILURES, DatabaseError) as error:
            if isinstance(error, DatabaseError) and not dialect.is_no_text(error):
                raise
            raise self._unreadable(error) from error

    def _fetch_all(self) -> None:
        models_wanted, texts_too = self._iterable_class is ModelIterable, False
        try:
            return super()._fetch_all()
        except DataError as error:
            if not (models_wanted and dialect.is_beyond_python(error)):
                raise
        except DatabaseError as error:
            if not dialect.is_no_text(error):
                raise
            if not models_wanted:
                raise self._unreadable(error) from error
            texts_too = True
        except _FAILURES as error:
            if not models_wanted:
                raise self._unreadable(error) from error
        self._result_cache: list[M] | None = self._read_carefully(texts_too)
        return super()._fetch_all()

    def _read_carefully(self, texts_too: bool) -> list[M]:
        """Once more, with the values as they are stored of all that would be converted.

        `texts_too`: the driver cannot even make texts of what stands there as texts.
        """
        names, deferred = self.query.deferred_loading
        wanted = [
            field
            for field in self.model._meta.concrete_fields
            if field.primary_key or bool({field.name, field.attname} & {*names}) is not deferred
        ]
        carefully = [
            field
            for field in wanted
            if isinstance(field, _CONVERTED)
            or (texts_too and (isinstance(field, _TEXTS) or not field.primary_key))
        ]
        stored = {f"stored_{field.name}": field for field in carefully}
        others = [field.name for field in wanted if field not in carefully]
        others += [] if deferred else [name for name in names if LOOKUP_SEP in name]
        how = dialect.AsBytes if texts_too else dialect.AsStored
        as_stored = {alias: how(field.name) for alias, field in stored.items()}
        try:
            # What it is related to is read by itself: a key that is read carefully cannot be followed.
            alone = self.select_related(None) if texts_too else self
            rows: list[M]
            if texts_too and isinstance(self.model._meta.pk, _TEXTS):
                rows = self._without_key(alone.values(**as_stored))
            else:
                rows = list(ModelIterable(alone.only(*others).annotate(**as_stored)))
            for row in rows:
                row.take(stored)
        except (*_FAILURES, DatabaseError) as error:
            if isinstance(error, DatabaseError) and not dialect.is_no_text(error):
                raise
            if dialect.is_no_text(error) and not texts_too:
                return self._read_carefully(texts_too=True)
            raise self._unreadable(error) from error
        return rows

    def _without_key(self, found: Iterable[dict[str, Any]]) -> list[M]:
        """Rows of which Django would read the key, in its way, for any model it makes."""
        rows = []
        for stored in found:
            row = self.model.from_db(self.db, (), ())
            vars(row).update(stored)
            rows.append(row)
        return rows

    def _unreadable(self, error: Exception) -> UnreadableRow:
        return UnreadableRow(self.model._meta.db_table, f"{type(error).__name__}: {error}")


class Legible(models.Model):
    """A row whose values are of the kinds that its fields say.

    Bytes in a text are read as text, anything else in bytes as bytes; what is no number, whole where it
    has to be, is none, the field's default, or 0; what is no time, UUID or JSON is none, or the field's
    default.
    """

    unreadable: Sequence[str] = ()
    """Fields that are not here as they are stored: empty, as in a new row, or a text with signs for what is
    none. But not for a word that SQLite's driver takes for no time by itself."""

    class Meta:
        abstract = True

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any
    ) -> Self:
        names = tuple(field_names)
        wrong = _wrong(cls, names)
        spoilt: Sequence[str] = ()
        if any(type(value) in kinds for value, kinds in zip(values, wrong, strict=False)):
            pairs = zip(names, values, strict=False)
            spoilt = [name for name, value in pairs if _is_spoilt(cls, name, value)]
            values = [
                _mended(cls, name, value) if type(value) in kinds else value
                for name, value, kinds in zip(names, values, wrong, strict=True)
            ]
        row = super().from_db(db, names, values, **more)
        if spoilt:
            row._cannot_be_read(spoilt)
        row.settle()
        return row

    def told(self, name: str) -> Any:
        """The value of a field for whoever looks: none where what is stored cannot be read."""
        return None if name in self.unreadable else getattr(self, name)

    def settle(self) -> None:
        """Make of what was read, if it was, what those that use it can rely on."""

    def take(self, stored: Mapping[str, Any]) -> None:
        """Make values of what is stored, which stands under these names."""
        read, spoilt = vars(self), []
        for alias, field in stored.items():
            value = read.pop(alias)
            if _is_spoilt(type(self), field.name, value):
                spoilt.append(field.name)
            try:
                read[field.attname] = _value(type(self), field, value)
            except (ValidationError, *_FAILURES):
                read[field.attname] = field.get_default()
                spoilt.append(field.name)
        if spoilt:
            self._cannot_be_read(spoilt)
        self.settle()

    def _cannot_be_read(self, names: Sequence[str]) -> None:
        self.unreadable = (*self.unreadable, *names)
        which = " and ".join(names)
        logger.warning("%s %s: its %s cannot be read", self._meta.db_table, self.pk, which)


def _value(model: type[Legible], field: Any, stored: Any) -> Any:
    """Raises whatever comes of a value that is none."""
    if isinstance(stored, bytes) and not isinstance(field, models.BinaryField):
        stored = _as_text(stored)
    if stored is None:
        return None
    if not isinstance(field, _CONVERTED):
        wrong = type(stored) in _never(model, field.name)
        return _mended(model, field.name, stored) if wrong else stored
    if isinstance(field, models.JSONField):
        return field.from_db_value(stored, Value(stored), dialect.connection())
    value = field.to_python(stored)
    if isinstance(field, models.DateTimeField) and value.tzinfo is None:
        return value.replace(tzinfo=dialect.zone())
    return value


@cache
def _wrong(model: type[Legible], names: Sequence[str]) -> list[tuple[type, ...]]:
    """The types that a value of each of these fields cannot have."""
    return [_never(model, name) for name in names]


def _never(model: type[Legible], name: str) -> tuple[type, ...]:
    field = model._meta.get_field(name)
    if isinstance(field, models.BinaryField):
        return (str, int, float)
    if isinstance(field, _TEXTS):
        return (bytes,)
    if isinstance(field, _WHOLE):
        return (str, bytes, float)
    return (str, bytes) if isinstance(field, models.FloatField) else ()


def _mended(model: type[Legible], name: str, value: str | bytes | float) -> object:
    field = model._meta.get_field(name)
    if isinstance(field, _NUMBERS):
        return None if field.null else field.get_default() or 0
    if isinstance(value, bytes):
        return _as_text(value)
    return str(value).encode("utf-8", "surrogatepass")


def _is_spoilt(model: type[Legible], name: str, value: object) -> bool:
    """Whether it is no number, or bytes for a text that are no UTF-8: who reads it does not get what is
    stored."""
    field = model._meta.get_field(name)
    if isinstance(field, _NUMBERS):
        return type(value) in _never(model, name)
    if not isinstance(value, bytes) or not isinstance(field, _TEXTS):
        return False
    return _as_text(value).encode() != value


def _as_text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
