import pytest

DATABASE_FIXTURES = {"db", "transactional_db", "django_db_setup", "live_server", "admin_client"}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Unit tests have no database: asking for one is a failure, not a slow test."""
    asks = DATABASE_FIXTURES.intersection(getattr(item, "fixturenames", ()))
    if asks or item.get_closest_marker("django_db"):
        pytest.fail("this test asks for a database; its place is integration/", pytrace=False)
