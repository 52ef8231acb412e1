"""Where an export goes: beside the file it shall be, until all of it is there."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..exceptions import QueueCTLError

BUFFER = 1_048_576


@contextmanager
def open_target(where: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """A stream to write to. A file appears, mode 0600, when all has been written, or not at all.

    Raises QueueCTLError for a target that is a directory, a symbolic link, a device or the like,
    and where the disk is full.
    """
    if not isinstance(where, str | Path):
        yield where
        where.flush()
        return
    path = os.fspath(where)
    _refuse_unless_file(path)
    directory, name = os.path.split(path)
    draft = os.path.join(directory, f".{name[:100]}.{secrets.token_hex(6)}")
    try:
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from None
    try:
        with os.fdopen(number, "wb", BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # A link that was put there meanwhile is replaced, not followed.
        os.replace(draft, path)
    except OSError as error:
        _remove(draft)
        raise _unwritable(path, error) from None
    except BaseException:
        _remove(draft)
        raise
    _sync(directory or ".")


def _refuse_unless_file(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return  # there is none, or opening the draft will say what is wrong
    if stat.S_ISLNK(mode):
        what = "it is a symbolic link; name the file itself"
    elif stat.S_ISDIR(mode):
        what = "it is a directory"
    elif not stat.S_ISREG(mode):
        what = "it is no ordinary file; leave FILE out to write to stdout"
    else:
        return
    raise QueueCTLError(f"Cannot write {path}: {what}")


def _unwritable(path: str, error: Exception) -> QueueCTLError:
    why = getattr(error, "strerror", None) or str(error)
    return QueueCTLError(f"Cannot write {path}: {why}", hint="no file was left behind")


def _remove(draft: str) -> None:
    with suppress(OSError):
        os.unlink(draft)


def _sync(directory: str) -> None:
    """The name lasts like the content."""
    with suppress(OSError):
        number = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(number)
        finally:
            os.close(number)
