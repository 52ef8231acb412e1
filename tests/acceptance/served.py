"""A site's pages, served by a real `queuectl web`, and somebody who has logged in."""

import http.client
import re
import socket
import subprocess
from contextlib import closing, suppress
from urllib.parse import urlencode

from tests.acceptance.databases import ROOT
from tests.acceptance.site import CONSOLE, Site
from tests.postgres import free_port
from tests.support import wait_until

PERSON = {"username": "ana", "password": "one that is long enough"}
FORM = "application/x-www-form-urlencoded"


class Pages:
    def __init__(self, site: Site) -> None:
        self.site, self.port, self.cookie, self.token = site, free_port(), "", ""
        self.log_file = site.directory / "web.log"
        self.start()

    def start(self) -> None:
        """At the same port; what it says is added to what was said."""
        said = self.log.count("Press Ctrl+C")
        with self.log_file.open("ab") as file:
            self.server = subprocess.Popen(
                [*CONSOLE, "web", "--port", str(self.port)],
                cwd=ROOT,
                env=self.site.env,
                stdout=file,
                stderr=file,
            )
        wait_until(
            lambda: self.log.count("Press Ctrl+C") > said, timeout=20, message=lambda: self.log
        )

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def make_person(self) -> None:
        who = ("--username", PERSON["username"], "--email", "ana@example.org")
        password = {"DJANGO_SUPERUSER_PASSWORD": PERSON["password"]}
        self.site.manage("createsuperuser", "--noinput", *who, env=password)

    def log_in(self) -> None:
        answer, text = self.ask("/accounts/login/")
        self.cookie = _given(answer)
        answer, _ = self.ask("/accounts/login/", PERSON | {"csrfmiddlewaretoken": _token(text)})
        self.cookie = _given(answer)
        assert "sessionid=" in self.cookie
        self.token = _token(self.ask("/new/")[1])

    def ask(
        self, path: str, body: dict[str, str] | None = None, timeout: float = 10
    ) -> tuple[http.client.HTTPResponse, str]:
        with closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        ) as connection:
            headers = {"Cookie": self.cookie, "Content-Type": FORM}
            connection.request(
                "POST" if body else "GET", path, urlencode(body) if body else None, headers
            )
            answer = connection.getresponse()
            return answer, answer.read().decode()

    def create(self, key: str) -> int:
        """The status of the answer to Create Job."""
        body = {"id": key, "command": "true", "csrfmiddlewaretoken": self.token}
        return self.ask("/new/", body)[0].status

    def connect(self, asks: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        with suppress(
            BrokenPipeError, ConnectionResetError
        ):  # what is refused is not read to the end
            client.sendall(asks)
        return client

    def close(self) -> None:
        self.server.terminate()
        assert self.server.wait(10) == 0, "it did not end as it should"


def _given(answer: http.client.HTTPResponse) -> str:
    given = answer.headers.get_all("Set-Cookie", ())
    return "; ".join(value.partition(";")[0] for value in given)


def _token(text: str) -> str:
    found = re.search(r'csrfmiddlewaretoken" value="(\w+)"', text)
    assert found, text
    return found[1]
