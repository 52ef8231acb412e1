"""Who acts."""

from jobs.operations import Actor


def test_of_a_longer_name_than_a_job_keeps_the_beginning_is_kept() -> None:
    assert Actor("x" * 254 + "@example.org", "web").name == "x" * 150
