"""Rows that a hand has edited: SQLite keeps any value in any column, and whoever reads must not fall."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any, Self

from django.db import models

_TEXTS = (models.CharField, models.TextField)
_WHOLE = (models.IntegerField, models.ForeignKey)
_NUMBERS = (*_WHOLE, models.FloatField)


class Legible(models.Model):
    """A row whose values are of the kinds that its fields say.

    Bytes in a text are read as text, text in bytes as bytes; what is no number, whole where it has
    to be, is none, or 0.
    """

    as_they_are: Sequence[str] = ()
    """Numbers that are shown, and told of, as somebody has put them there."""

    class Meta:
        abstract = True

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **more: Any
    ) -> Self:
        names = tuple(field_names)
        wrong = _wrong(cls, names)
        if any(type(value) in kinds for value, kinds in zip(values, wrong, strict=False)):
            values = [
                _mended(cls, name, value) if type(value) in kinds else value
                for name, value, kinds in zip(names, values, wrong, strict=True)
            ]
        return super().from_db(db, names, values, **more)


@cache
def _wrong(model: type[Legible], names: Sequence[str]) -> list[tuple[type, ...]]:
    """The types that a value of each of these fields cannot have."""
    return [_never(model, name) for name in names]


def _never(model: type[Legible], name: str) -> tuple[type, ...]:
    field = model._meta.get_field(name)
    if isinstance(field, models.BinaryField):
        return (str,)
    if isinstance(field, _TEXTS):
        return (bytes,)
    if name in model.as_they_are:
        return ()
    if isinstance(field, _WHOLE):
        return (str, bytes, float)
    return (str, bytes) if isinstance(field, models.FloatField) else ()


def _mended(model: type[Legible], name: str, value: str | bytes | float) -> object:
    field = model._meta.get_field(name)
    if isinstance(field, _NUMBERS):
        return None if field.null else 0
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value).encode("utf-8", "surrogatepass")
