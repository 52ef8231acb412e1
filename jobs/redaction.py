"""What a job runs, as it is shown to people: without the passwords that may stand in it.

Screens are shared and photographed. Whoever needs the exact text asks for JSON, or an export.
"""

from __future__ import annotations

import re

from . import conf, masks

_NAMES = r"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key)"
_KNOWN = masks.compiled(
    (
        rf"(?i)'[^'\s]{{0,80}}?{_NAMES}=([^'&]*)['&]",
        rf"(?i){_NAMES}[\"']?\s*[=:]\s*(\"[^\"]*\"|'[^']*'|[^\s\"'&;,]+)",
        rf"(?i)(?<![\w-])--[\w-]{{0,40}}?{_NAMES}\s+(\"[^\"]*\"|'[^']*'|[^\s\"'-]\S*)",
        r"(?i)\b(?:bearer|basic)\s+([\w.+/=~-]{8,})",
        r"\w://[^/\s:@'\"]*:([^/\s@'\"]+)@",
    )
)
_STAR = b"\0"


def redacted(text: str) -> str:
    """With `***` for the values of passwords, tokens and the like, and for what QUEUECTL["MASK"] matches."""
    data = text.encode("utf-8", "surrogatepass")
    found = masks.masked(data, _KNOWN + masks.compiled(conf.get().MASK), star=_STAR)
    if found is data:
        return text
    return re.sub(_STAR + b"+", b"***", found).decode("utf-8", "replace")
