"""Pictures of every page, in light and dark, wide and narrow, of a site made for that.

    python docs/screenshots.py DIRECTORY          every page, into DIRECTORY
    python docs/screenshots.py                    the few that the documentation shows

It needs Chromium and its driver (Debian: chromium, chromium-driver) and the dev extra.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
MANAGE = (sys.executable, str(ROOT / "manage.py"))
QUEUECTL = (*MANAGE, "queuectl")
PORT, USER, PASSWORD = 5099, "ana", "a password for pictures"
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
SHOWN_SIZE = (1100, 720)
PAGES = {
    "overview": "/",
    "jobs": "/jobs/",
    "jobs-none": "/jobs/?state=blocked",
    "job-completed": "/jobs/checksum-3/",
    "job-dead": "/jobs/nightly-backup/",
    "job-scheduled": "/jobs/report/",
    "ask-delete": "/jobs/nightly-backup/discard/",
    "ask-move": "/jobs/report/move/",
    "dlq": "/dlq/",
    "charts": "/charts/",
    "new": "/new/",
    "new-template": "/new/pause/",
    "start-workers": "/workers/start/",
    "stop-workers": "/workers/stop/",
    "missing": "/jobs/nightly-bakup/",
    "admin-index": "/admin/",
    "admin-jobs": "/admin/queuectl/job/",
    "admin-jobs-dead": "/admin/queuectl/job/?state=dead",
    "admin-job": "/admin/queuectl/job/nightly-backup/change/",
    "admin-ask": "/admin/queuectl/job/nightly-backup/press/discard/",
    "admin-queues": "/admin/queuectl/queue/",
    "admin-workers": "/admin/queuectl/worker/",
    "admin-settings": "/admin/queuectl/setting/",
    "admin-setting": "/admin/queuectl/setting/job-timeout/change/",
    "admin-events": "/admin/queuectl/event/",
}
SHOWN = {"overview": ("light", "dark"), "job-dead": ("light",)}
"""What the documentation shows: the top of these pages."""

LOUD = 'for i in 1 2 3; do echo "copying part $i of 9"; done; echo "no route to host" >&2; exit 7'
JOBS = (
    ("--id", "nightly-backup", "--max-retries", "0", LOUD),
    ("--id", "thumbnails", "--max-retries", "0", "no-such-program --size 200 *.png"),
    ("--id", "flaky-upload", "--max-retries", "5", "echo 'connection reset' >&2; exit 75"),
    *(("--id", f"checksum-{n}", "-q", "batch", f"seq {n}000 | cksum") for n in range(1, 9)),
    ("--id", "report", "--in", "2h", "-p", "9", "python3 report.py --month 2030-05"),
    ("--id", "encode-intro", "-p", "50", "sleep 600"),
    ("--id", "greeting", "echo Hello World"),
)  # fmt: skip


def manage(*args: str, **more: str) -> None:
    subprocess.run([*MANAGE, *args], check=True, cwd=ROOT, env=os.environ | more, stdout=sys.stderr)


@contextmanager
def site() -> Iterator[str]:
    """A server with jobs in every state, and a worker; the address."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ |= {
            "DATABASE_URL": f"sqlite:///{directory}/pictures.sqlite3",
            "DEBUG": "on",
            "SECRET_KEY": secrets.token_urlsafe(50),
        }
        manage("migrate", "--verbosity=0")
        manage(
            "createsuperuser", "--noinput", "--username", USER, "--email", "ana@example.org",
            DJANGO_SUPERUSER_PASSWORD=PASSWORD,
        )  # fmt: skip
        for job in JOBS:
            manage("queuectl", "enqueue", *job)
        server = subprocess.Popen([*QUEUECTL, "web", "--port", str(PORT)], cwd=ROOT)
        worker = subprocess.Popen([*QUEUECTL, "worker", "start", "--count", "4"], cwd=ROOT)
        try:
            _wait(f"http://127.0.0.1:{PORT}/")
            time.sleep(3)  # until the jobs have run
            manage("queuectl", "queue", "pause", "batch", "--reason", "disk is being replaced")
            manage("queuectl", "enqueue", "--id", "checksum-9", "-q", "batch", "seq 9000 | cksum")
            manage("queuectl", "config", "set", "job-timeout", "900")
            manage("queuectl", "retry", "nightly-backup")
            time.sleep(2)
            yield f"http://127.0.0.1:{PORT}"
        finally:
            for process in (worker, server):
                process.terminate()
            manage("queuectl", "worker", "stop", "--now")
            for process in (worker, server):
                process.wait()


def _wait(address: str) -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(address)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server did not start")


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()


def log_in(driver: webdriver.Chrome, address: str) -> None:
    driver.get(f"{address}/accounts/login/")
    driver.find_element(By.NAME, "username").send_keys(USER)
    driver.find_element(By.NAME, "password").send_keys(PASSWORD)
    driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()


def picture(
    driver: webdriver.Chrome,
    url: str,
    scheme: str,
    size: tuple[int, int],
    file: Path,
    *,
    whole: bool,
) -> None:
    """A page as it looks in a window of that size; the whole of it, however long, or what fits."""
    width, height = size
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 640}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(url)
    overflow = driver.execute_script("return document.documentElement.scrollWidth - innerWidth")
    if overflow > 0:
        sys.stderr.write(f"{file.name}: {overflow} px wider than the window\n")
    for line in driver.get_log("browser"):  # type: ignore[no-untyped-call]
        sys.stderr.write(f"{file.name}: {line['message']}\n")
    shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
    file.write_bytes(base64.b64decode(shot["data"]))


def every_page(driver: webdriver.Chrome, address: str, into: Path) -> None:
    for name, path in PAGES.items():
        for size in SIZES:
            for scheme in ("light", "dark"):
                file = into / f"{name}-{size}-{scheme}.png"
                picture(driver, f"{address}{path}", scheme, SIZES[size], file, whole=True)


def shown_pages(driver: webdriver.Chrome, address: str) -> None:
    for name, schemes in SHOWN.items():
        for scheme in schemes:
            file = IMAGES / f"{name}-{scheme}.png"
            picture(driver, f"{address}{PAGES[name]}", scheme, SHOWN_SIZE, file, whole=False)


def main(directory: Path | None) -> None:
    (directory or IMAGES).mkdir(parents=True, exist_ok=True)
    with site() as address, browser() as driver:
        log_in(driver, address)
        if directory:
            every_page(driver, address, directory)
        else:
            shown_pages(driver, address)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
