from __future__ import annotations

from .. import conf, dialect
from ..models import Setting
from .actor import Actor
from .events import record
from .policy import must


def set_setting(name: str, text: str, actor: Actor) -> int | float:
    """Store a setting; running workers obey it within a heartbeat. Returns the value stored.

    Raises InvalidField for an unknown name, a wrong type or a value out of bounds.
    """
    must(actor, "change_setting", "set", f"setting {name}")
    setting = conf.runtime(name)
    value = setting.read(text)
    with dialect.atomic():
        now = dialect.now()
        before = Setting.objects.stored().get(setting.name, setting.default)
        Setting.objects.update_or_create(
            key=setting.name, defaults={"value": value, "updated_at": now, "updated_by": actor.name}
        )
        record(
            actor, "set", f"setting {setting.name}", now=now, before=str(before), after=str(value)
        )
        dialect.notify()
    return value
