"""Whether what a job runs is what was enqueued: its row carries a signature by the site's key.

Whoever can write to the database, and has no SECRET_KEY, can then change a command but not have it
run. It guards what is run, where and for whom, not when or how often: an old row that is put back
runs again.
"""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from . import conf

ABSENT, BAD = "no signature", "bad signature"

_PLAIN = ("key", "queue", "command", "task", "cwd", "enqueued_by")
_JSON = ("argv", "args", "env")


def sign(job: Any) -> str | None:
    """The signature of a job, or of the row of one; None where the site signs none."""
    return None if conf.get().SIGNATURES == "off" else _signature(job, settings.SECRET_KEY)


def flaw(job: Any) -> str:
    """Why a stored job must not run, ABSENT or BAD; "" where nothing is wrong with its signature.

    One by a key of SECRET_KEY_FALLBACKS is good.
    """
    mode = conf.get().SIGNATURES
    if mode == "off":
        return ""
    if not job.signature:
        return ABSENT if mode == "require" else ""
    try:
        keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        good = any(constant_time_compare(job.signature, _signature(job, key)) for key in keys)
    except (ValueError, TypeError, RecursionError):
        return BAD  # a hand has put there what nobody can have signed
    return "" if good else BAD


def _signature(job: Any, key: str | bytes) -> str:
    signed = {name: getattr(job, name) for name in _PLAIN}
    signed["timeout"] = None if job.timeout is None else float(job.timeout)
    signed |= {name: _same_text(getattr(job, name)) for name in _JSON}
    return salted_hmac(
        "queuectl.job", json.dumps(signed, sort_keys=True), secret=key, algorithm="sha256"
    ).hexdigest()


def _same_text(value: Any) -> str | None:
    """One text for all that a database makes of JSON: PostgreSQL sorts keys, and writes 1e23 out."""
    if value is None:
        return None
    text = value if isinstance(value, str | bytes) else json.dumps(value)
    return json.dumps(json.loads(text, parse_float=_same_number), sort_keys=True)


def _same_number(text: str) -> int | float:
    """A whole number as one, however it is written."""
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, part = mantissa.partition(".")
    shift = int(exponent or 0) - len(part.rstrip("0"))
    digits = int(whole + part.rstrip("0"))
    return digits * 10**shift if 0 <= shift <= 308 else float(text)
