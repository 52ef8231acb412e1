import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from jobs import dialect, lockfile
from jobs.exceptions import WorkerRefused
from jobs.lockfile import Lock

pytestmark = pytest.mark.django_db


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "locks"
    with override_settings(QUEUECTL={"LOCK_DIR": str(path)}):
        yield path


def test_a_lock_is_held_until_its_last_holder_lets_go(locks: Path) -> None:
    fd, path = lockfile.acquire("a")
    shared = os.dup(fd)
    assert lockfile.look(str(path)) is Lock.HELD
    os.close(fd)
    assert lockfile.look(str(path)) is Lock.HELD
    os.close(shared)
    assert lockfile.look(str(path)) is Lock.FREE


def test_looking_disturbs_nobody(locks: Path) -> None:
    fd, path = lockfile.acquire("a")
    os.close(fd)
    assert [lockfile.look(str(path)) for _ in range(3)] == [Lock.FREE] * 3


@pytest.mark.parametrize("path", ["/no/such/file", ""])
def test_a_lock_that_is_not_there_tells_nothing(path: str) -> None:
    assert lockfile.look(path) is Lock.UNKNOWN


def test_a_lock_behind_a_link_tells_nothing(locks: Path, tmp_path: Path) -> None:
    fd, path = lockfile.acquire("a")
    link = tmp_path / "link"
    link.symlink_to(path)
    assert lockfile.look(str(link)) is Lock.UNKNOWN
    os.close(fd)


def test_a_fifo_in_a_locks_place_tells_nothing_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert lockfile.look(str(tmp_path / "fifo")) is Lock.UNKNOWN
    assert lockfile.look("nul\0") is Lock.UNKNOWN


def test_only_a_lock_of_this_directory_is_removed(locks: Path, tmp_path: Path) -> None:
    """A worker's row, which a hand may write, names the file."""
    fd, path = lockfile.acquire("a")
    os.close(fd)
    victims = [tmp_path / "precious", tmp_path / "precious.lock", locks / "worker.log"]
    for victim in victims:
        victim.touch()
        lockfile.remove(str(victim))
    lockfile.remove(f"{locks}/../precious.lock")
    assert all(victim.exists() for victim in victims)
    lockfile.remove(path)
    assert not path.exists()


def test_the_directory_is_made_for_this_user_alone(locks: Path) -> None:
    assert lockfile.directory() == locks
    assert locks.stat().st_mode & 0o777 == 0o700


def test_a_lock_is_for_this_user_alone_and_not_for_commands(locks: Path) -> None:
    fd, path = lockfile.acquire("a")
    assert path.stat().st_mode & 0o777 == 0o600 and not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_directory_that_others_can_write_is_refused(locks: Path, mode: int) -> None:
    locks.mkdir()
    locks.chmod(mode)
    with pytest.raises(WorkerRefused, match="not this user's alone"):
        lockfile.directory()


def test_a_directory_of_somebody_else_is_refused(locks: Path) -> None:
    locks.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getuid", lambda: locks.stat().st_uid + 1)
        with pytest.raises(WorkerRefused, match="not this user's alone"):
            lockfile.directory()


def test_a_directory_behind_a_link_is_refused(locks: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    locks.symlink_to(target)
    with pytest.raises(WorkerRefused, match="not this user's alone"):
        lockfile.directory()


def test_a_file_in_the_directorys_place_is_refused(locks: Path) -> None:
    locks.write_text("")
    with pytest.raises(WorkerRefused) as caught:
        lockfile.directory()
    assert "LOCK_DIR" in caught.value.hint


def test_a_planted_file_is_not_taken_for_a_lock(locks: Path, tmp_path: Path) -> None:
    lockfile.directory()
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (locks / "a.lock").symlink_to(victim)
    with pytest.raises(WorkerRefused, match="cannot be made"):
        lockfile.acquire("a")
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("silent", [True, False])
def test_a_worker_with_a_free_lock_is_dead(locks: Path, silent: bool) -> None:
    fd, path = lockfile.acquire("a")
    os.close(fd)
    assert not lockfile.is_alive(lockfile.boot(), str(path), silent=silent)


def test_a_held_lock_proves_life_where_all_workers_share_a_host(locks: Path) -> None:
    fd, path = lockfile.acquire("a")
    alive = lockfile.is_alive(lockfile.boot(), str(path), silent=True)
    os.close(fd)
    assert alive is dialect.workers_share_a_host()


def test_of_an_earlier_boot_nothing_is_left_on_this_host(locks: Path) -> None:
    fd, path = lockfile.acquire("a")
    alive = lockfile.is_alive("an earlier boot", str(path), silent=False)
    os.close(fd)
    assert alive is not dialect.workers_share_a_host()


@pytest.mark.parametrize("silent", [True, False])
def test_a_lock_that_tells_nothing_leaves_it_to_the_heartbeat(silent: bool) -> None:
    assert lockfile.is_alive(lockfile.boot(), "/no/such/file", silent=silent) is not silent


def test_removing_what_is_gone_is_no_trouble() -> None:
    lockfile.remove("/no/such/file")


def test_only_one_at_a_time_passes_a_turnstile(locks: Path) -> None:
    gate, same, other = (lockfile.turnstile(name) for name in ("gate", "gate", "another"))
    with gate as first, same as second, other as third:
        assert (first, second, third) == (True, False, True)
    with lockfile.turnstile("gate") as again:
        assert again


def test_a_turnstile_is_free_again_after_an_error(locks: Path) -> None:
    with pytest.raises(ZeroDivisionError), lockfile.turnstile("gate"):
        raise ZeroDivisionError
    with lockfile.turnstile("gate") as again:
        assert again


def test_a_lock_whose_file_is_swept_away_as_it_is_made_is_made_again(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, tries = fcntl.flock, []

    def flock(fd: int, how: int) -> None:
        tries.append(fd)
        if len(tries) == 1:
            os.unlink(locks / "a.lock")
        elif len(tries) == 2:
            raise BlockingIOError
        take(fd, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    fd, path = lockfile.acquire("a")
    monkeypatch.undo()
    assert len(tries) == 3 and lockfile.look(str(path)) is Lock.HELD
    os.close(fd)


def test_a_lock_that_cannot_be_made_is_refused_by_name(
    locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lockfile.directory()

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", no_room)
    with pytest.raises(WorkerRefused, match=r"a\.lock cannot be made: No space left"):
        lockfile.acquire("a")


def test_what_is_left_behind_is_swept_away_once_a_lease_is_over_and_only_that(
    locks: Path,
) -> None:
    held, held_path = lockfile.acquire("held")
    left, _ = lockfile.acquire("left")
    os.close(left)
    others = [locks / "worker.log", locks / "start-workers.turn"]
    for path in others:
        path.touch()
    sweeper = lockfile.Sweeper()
    assert [sweeper.sweep(now, 60) for now in (0, 30, 60)] == [0, 0, 0]
    late, late_path = lockfile.acquire("late")
    os.close(late)
    assert sweeper.sweep(61, 60) == 1
    assert set(locks.iterdir()) == {held_path, late_path, *others}
    assert [sweeper.sweep(now, 60) for now in (62, 121, 122)] == [0, 0, 1]
    assert lockfile.look(str(held_path)) is Lock.HELD
    os.close(held)


def test_a_sweeper_spares_what_somebody_has_taken_meanwhile(locks: Path) -> None:
    fd, path = lockfile.acquire("a")
    fcntl.flock(fd, fcntl.LOCK_UN)
    sweeper = lockfile.Sweeper()
    sweeper.sweep(0, 60)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert sweeper.sweep(61, 60) == 0
    assert path.exists()
    os.close(fd)
