from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import models

from .. import conf
from .legible import Legible, LegibleQuerySet


def known(stored: Mapping[str, Any]) -> dict[str, int | float]:
    """Without what another version, or a hand, has stored that is no setting or no value of one."""
    return {
        name: value
        for name, value in stored.items()
        if (setting := conf.RUNTIME.get(name)) and setting.holds(value)
    }


class SettingQuerySet(LegibleQuerySet["Setting"]):
    def stored(self) -> dict[str, int | float]:
        """The known settings that have been set."""
        return known({row.key: row.value for row in self.all()})

    def policy(self) -> conf.Policy:
        """What is in force now: the stored values, defaults for the rest."""
        return conf.policy(self.stored())


class Setting(Legible):
    """A value changed while workers run; they obey it within a heartbeat."""

    key = models.CharField(max_length=64, primary_key=True)
    value = models.JSONField()
    updated_at = models.DateTimeField()
    updated_by = models.CharField(max_length=150, default="", blank=True)

    objects = SettingQuerySet.as_manager()

    def __str__(self) -> str:
        return self.key
