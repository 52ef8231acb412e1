"""The pages in a real browser, with scripts and without: they need none."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import django
import psutil
import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.acceptance.databases import ROOT
from tests.acceptance.site import CONSOLE, Site
from tests.support import wait_until

pytestmark = pytest.mark.one_database

USER, PASSWORD = "ana", secrets.token_urlsafe(12)
HOSTILE = "<script>alert(1)</script>"
INSTALL = "apt-get install --no-install-recommends chromium chromium-driver"


@contextmanager
def chromium(profile: Path, *, scripts: bool) -> Iterator[webdriver.Chrome]:
    """A browser with no window, as root too; Debian's, and never one that is downloaded."""
    binary = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        missing = f"no Chromium with its driver; on Debian: {INSTALL}"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    options = Options()
    options.binary_location = binary
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-extensions", "--disable-component-update", "--disable-background-networking",
    ):  # fmt: skip
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not scripts:
        off = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", off)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.set_page_load_timeout(30)
        yield browser
    finally:
        browser.quit()


def between_two_pages(error: WebDriverException) -> bool:
    """Whether what was looked at went away with its page; some drivers have no name for that."""
    return isinstance(error, NoSuchElementException | StaleElementReferenceException) or (
        "does not belong to the document" in str(error.msg)
    )


class Person:
    """Somebody at a browser."""

    def __init__(self, browser: webdriver.Chrome, address: str) -> None:
        self.browser, self.address = browser, address

    def visit(self, path: str) -> None:
        self.browser.get(f"{self.address}{path}")

    def press(self, label: str, within: str = "body") -> None:
        """A link or button of that name; the first, from the top."""
        name = f"//{within}//*[self::a or self::button][normalize-space(.)='{label}']"
        self.browser.find_element(By.XPATH, name).click()

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            field = self.browser.find_element(By.NAME, name)
            field.clear()
            field.send_keys(value)

    @property
    def text(self) -> str:
        try:
            return self.browser.find_element(By.TAG_NAME, "body").text
        except WebDriverException as error:
            if not between_two_pages(error):
                raise
            return ""

    def sees(self, said: str) -> None:
        """Until the page that was asked for has come, and says so."""
        wait_until(lambda: said in self.text, message=lambda: f"no {said!r} in:\n{self.text}")

    def reloads_until(self, said: str, timeout: float = 15) -> None:
        def said_now() -> bool:
            self.browser.refresh()
            return said in self.text

        told = f"no {said!r} in:\n"
        wait_until(said_now, timeout=timeout, every=0.2, message=lambda: told + self.text)

    def complaints(self) -> list[str]:
        """What the browser's console was told, scripts and policies above all."""
        logs: list[dict[str, str]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return [log["message"] for log in logs]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    """A site's pages, served as `queuectl web` does."""
    user = ("--username", USER, "--email", "ana@example.org")
    site.manage("createsuperuser", "--noinput", *user, env={"DJANGO_SUPERUSER_PASSWORD": PASSWORD})
    port = free_port()
    log = site.directory / "web.log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [*CONSOLE, "web", "--port", str(port)], cwd=ROOT, env=site.env, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: "Press Ctrl+C" in log.read_text(), message=lambda: log.read_text())
        yield f"http://127.0.0.1:{port}"
        assert "Traceback" not in log.read_text()
    finally:
        server.terminate()
        server.wait(10)


with_scripts = pytest.mark.parametrize("person", [True], indirect=True, ids=["scripts on"])
without_scripts = pytest.mark.parametrize("person", [False], indirect=True, ids=["scripts off"])
either_way = pytest.mark.parametrize("person", [True, False], indirect=True, ids=["on", "off"])


Open = Callable[[bool], webdriver.Chrome]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """One with scripts and one without, each started when it is first wanted."""
    with ExitStack() as stack:

        @cache
        def open_one(scripts: bool) -> webdriver.Chrome:
            profile = tmp_path_factory.mktemp("profile")
            return stack.enter_context(chromium(profile, scripts=scripts))

        yield open_one


@pytest.fixture
def person(request: pytest.FixtureRequest, address: str, browser: Open) -> Person:
    """Somebody who comes with an empty memory, and has logged in."""
    chrome = browser(request.param)
    chrome.execute_cdp_cmd("Network.clearBrowserCookies", {})  # type: ignore[no-untyped-call]
    chrome.get("data:text/html,<title>off</title><script>document.title='on'</script>")
    assert chrome.title == ("on" if request.param else "off")
    person = Person(chrome, address)
    person.complaints()
    person.visit("/")
    person.fill(username=USER, password=PASSWORD)
    person.press("Log in")
    person.sees("Worker Status")
    return person


@without_scripts
def test_a_person_does_the_whole_round(site: Site, person: Person) -> None:
    person.sees("No jobs yet")
    person.press("+ Create Job")
    person.sees("Create New Job")
    person.fill(id="first", command="echo hello from the page", priority="7")
    person.press("Create Job")
    person.sees("Job 'first' enqueued successfully")

    person.press("Overview")
    person.sees("default: 1 job waits and no worker is running.")
    person.fill(count="2")
    person.press("Start Workers", within="main")
    person.sees("Started 2 worker(s) on ")
    person.sees("Workers running: 2 slots of 1 worker")
    person.visit("/jobs/first/")
    person.reloads_until("completed")
    person.sees("hello from the page")

    person.press("+ Create Job")
    person.sees("Create New Job")
    person.fill(id="broken", command="echo no route >&2; exit 7", max_retries="0")
    person.press("Create Job")
    person.sees("Job 'broken' enqueued successfully")
    person.reloads_until("no route (exit code 7)")
    person.press("Dead Letter Queue")
    person.sees("Jobs with no retries left")
    person.press("Retry broken")
    person.sees("Job 'broken' moved back to queue for retry")
    site.wait_for_runs("broken", 2)
    site.wait_for("dead", "broken")
    person.visit("/jobs/broken/")
    person.sees("dead → pending")
    person.press("Delete…")
    person.sees("This cannot be undone.")
    person.press("Delete")
    person.sees("Job 'broken' discarded")
    assert set(site.states()) == {"first"}

    person.press("Stop Workers")
    person.sees("Every live worker")
    person.press("Stop Workers", within="main")
    person.sees("Stopping workers gracefully")
    person.reloads_until("Workers not running")
    person.press("Metrics")
    person.sees("100.00%")
    assert person.complaints() == []


@with_scripts
def test_hostile_jobs_do_nothing_on_any_page(site: Site, person: Person) -> None:
    command = f"printf '%s' '{HOSTILE}{{{{7*7}}}}<img src=x onerror=alert(2)>' >&2; exit 1"
    site.enqueue({"id": HOSTILE, "command": command, "max_retries": 0})
    site.run_until_empty()
    admin = "/admin/queuectl/job/"
    for path in ("/", "/jobs/", "/dlq/", "/charts/", "/new/", admin, f"{admin}?state=dead"):
        person.visit(path)
        assert person.browser.find_elements(By.CSS_SELECTOR, "img[src=x]") == []
    person.visit("/dlq/")
    person.press(HOSTILE)
    person.sees("{{7*7}}<img src=x onerror=alert(2)>")
    assert person.complaints() == []


@either_way
def test_the_admin_works_without_scripts_too(site: Site, person: Person) -> None:
    site.enqueue(*({"id": f"job{n}", "command": "exit 1", "max_retries": 0} for n in range(3)))
    site.run_until_empty()
    person.visit("/admin/queuectl/job/?state=dead")
    for box in person.browser.find_elements(By.NAME, "_selected_action"):
        box.click()
    choice = person.browser.find_element(
        By.CSS_SELECTOR, 'select[name="action"] option[value="retry"]'
    )
    choice.click()
    person.press("Go" if django.VERSION < (6, 1) else "Run")
    person.sees("Retried 3 jobs.")
    assert set(site.states().values()) == {"pending"}
    person.visit("/admin/queuectl/job/job1/change/")
    person.press("Cancel")
    person.sees("Job 'job1' cancelled")
    assert person.complaints() == []


WEB_SERVER = """
import sys
sys.path.insert(0, sys.argv[1])
sys.argv = ["/usr/bin/some-web-server"]
import django
django.setup()
from jobs.worker import detach
from jobs.worker.supervisor import Plan
print(detach.start(Plan(slots=1), None).pid)
"""


def test_a_worker_starts_from_any_web_server_wherever_it_was_started(site: Site) -> None:
    """Its program knows nothing of `worker start`, its directory is none of the project's."""
    variables = {"DJANGO_SETTINGS_MODULE": "queuectl_project.settings", "RUN_MAIN": "true"}
    result = subprocess.run(
        [sys.executable, "-c", WEB_SERVER, str(ROOT)],
        cwd=site.directory,
        env=site.env | variables,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert result.returncode == 0, result.stderr
    worker = psutil.Process(int(result.stdout))
    assert "RUN_MAIN" not in worker.environ()
    site.run("worker", "stop")
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_a_worker_that_a_living_server_started_leaves_no_zombie(site: Site) -> None:
    script = WEB_SERVER + "import time\ntime.sleep(60)\n"
    variables = {"DJANGO_SETTINGS_MODULE": "queuectl_project.settings"}
    server = subprocess.Popen(
        [sys.executable, "-uc", script, str(ROOT)],
        cwd=site.directory,
        env=site.env | variables,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        worker = psutil.Process(int(server.stdout.readline()))
        site.run("worker", "stop")
        wait_until(lambda: not worker.is_running(), message="the worker stayed a zombie")
        server.kill()
