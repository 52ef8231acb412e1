"""The five scenarios of the assignment that the original was written for."""

from datetime import timedelta

from tests.acceptance.site import Site


def test_a_basic_job_completes(site: Site) -> None:
    site.run("enqueue", '{"id": "hello", "command": "echo Hello World"}')
    site.run_until_empty()
    assert site.job("hello").state == "completed"
    [attempt] = site.attempts("hello")
    assert (attempt.number, attempt.outcome, attempt.exit_code) == (1, "succeeded", 0)
    assert site.output("hello") == b"Hello World\n"


def test_a_failing_job_waits_2_4_and_8_seconds_between_its_runs_and_is_then_dead(
    site: Site,
) -> None:
    site.enqueue({"id": "broken", "command": "exit 23"})
    site.start_worker()
    for failures in (1, 2, 3):
        site.wait_for("failed")
        job = site.job("broken")
        assert (job.attempts, job.runs) == (failures, failures)
        assert job.due_at - job.updated_at == timedelta(seconds=2**failures)
        # That it waits so long is another test's; here time passes by itself.
        site.sql("UPDATE queuectl_job SET due_at = created_at WHERE state = 'failed'")
        site.wait_for_runs("broken", failures + 1)
    site.wait_for("dead")
    assert [(a.number, a.outcome, a.exit_code) for a in site.attempts("broken")] == [
        (number, "failed", 23) for number in (1, 2, 3, 4)
    ]


def test_a_retry_starts_after_its_backoff_and_soon_after_it(site: Site) -> None:
    site.enqueue(site.effect("broken", code=1, max_retries=2, backoff_base=1.2))
    site.run_until_empty()
    assert site.job("broken").state == "dead"
    ends, starts = site.effects("end"), site.effects("start")
    for failures in (1, 2):
        waited = starts[failures].at - ends[failures - 1].at
        assert 1.2**failures <= waited <= 1.2**failures + 2


def test_dlq_retry_starts_a_new_series_and_attempt_numbers_go_on(site: Site) -> None:
    site.enqueue({"id": "broken", "command": "exit 1", "max_retries": 1, "backoff_base": 1})
    site.run_until_empty()
    assert site.job("broken").state == "dead"
    site.run("dlq", "retry", "broken")
    job = site.job("broken")
    assert (job.state, job.attempts, job.runs) == ("pending", 0, 2)
    site.run_until_empty()
    assert site.job("broken").state == "dead"
    assert [attempt.number for attempt in site.attempts("broken")] == [1, 2, 3, 4]


def test_three_workers_share_300_jobs_and_run_each_once(site: Site) -> None:
    workers = [site.start_worker("--count", "4") for _ in range(3)]
    log = site.directory / "ran"
    command = f"echo $QUEUECTL_JOB_ID >> {log}; sleep 0.02"
    keys = [f"job{number}" for number in range(300)]
    site.enqueue(*({"id": key, "command": command} for key in keys))
    site.wait_for("completed", timeout=40)
    assert sorted(log.read_text().split()) == sorted(keys)
    rows = site.sql("SELECT worker_id, number FROM queuectl_attempt")
    assert len(rows) == 300
    assert {number for _, number in rows} == {1}
    assert len({worker for worker, _ in rows}) == 3, "not every worker took part"
    assert [worker.stop() for worker in workers] == [0, 0, 0]


def test_an_invalid_command_fails_and_harms_nothing_else(site: Site) -> None:
    once = {"max_retries": 0}
    site.enqueue(
        {"id": "shell", "command": "no-such-command --help", **once},
        {"id": "argv", "argv": ["no-such-command", "--help"], **once},
        {"id": "syntax", "command": "if then (", **once},
        {"id": "not executable", "argv": ["/etc/hostname"], **once},
        {"id": "fine", "command": "true"},
    )
    worker = site.run_until_empty("--count", "2")
    assert site.states() == {
        "shell": "dead",
        "argv": "dead",
        "syntax": "dead",
        "not executable": "dead",
        "fine": "completed",
    }
    [shell] = site.attempts("shell")
    assert (shell.outcome, shell.exit_code) == ("failed", 127)
    assert "no-such-command" in site.job("shell").last_error
    [argv] = site.attempts("argv")
    assert (argv.outcome, argv.exit_code) == ("not_started", None)
    assert "no-such-command" in site.job("argv").last_error
    assert site.outcomes("not executable") == ["not_started"]
    assert "Traceback" not in worker.log


def test_jobs_outlive_a_restart_in_every_state(site: Site) -> None:
    site.enqueue(
        {"id": "good", "command": "true"},
        {"id": "bad", "command": "exit 1", "max_retries": 0},
        {"id": "between retries", "command": "exit 1", "backoff_base": 100},
        {"id": "later", "command": "true", "delay": 3600},
    )
    worker = site.start_worker()
    site.wait_for("failed", "between retries")
    site.wait_for("dead", "bad")
    site.wait_for("completed", "good")
    assert worker.stop() == 0
    site.enqueue(site.effect("waiting"))
    before = site.states()
    assert before == {
        "good": "completed",
        "bad": "dead",
        "between retries": "failed",
        "later": "scheduled",
        "waiting": "pending",
    }
    site.start_worker()
    site.wait_for("completed", "waiting")
    assert site.states() == before | {"waiting": "completed"}
    assert len(site.effects("start")) == 1
