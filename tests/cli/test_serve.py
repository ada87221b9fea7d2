import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

import gamt
from gamt.cli import web
from tests.cli.calls import ROOT, Run, one_line

SECONDS = 60.0
"""What a server may take at most until it has printed its address, or until it has ended."""

ADDRESS = re.compile(r"http://\S+")


class Server:
    """A running `gamt serve`.

    Attributes:
        process: it.
        url: its address, as printed.
        printed: on standard output, up to that.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.printed = ""
        assert process.stdout
        while not (found := ADDRESS.search(self.printed)):
            line = process.stdout.readline()
            assert line, f"ended with {process.wait()}"
            self.printed += line
        self.url = found.group()

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Sends a signal; returns exit status, and the rest of both outputs."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err


@contextmanager
def serving(*options: str, **variables: str) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "gamt", "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | variables,
    )
    with process:
        try:
            yield Server(process)
        finally:
            process.kill()


@pytest.mark.slow
def test_it_prints_what_users_need_answers_them_and_ends_by_ctrl_c() -> None:
    with serving() as server:
        assert server.printed.splitlines() == [
            f"gamt {gamt.__version__}, segmenter statistical, licence Apache-2.0",
            f"Server address for 3D Slicer and napari: {server.url}",
        ]
        assert server.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{server.url}/healthz").json() == {"ok": True}
        assert httpx.get(f"{server.url}/capabilities", timeout=SECONDS).json()["license"] == (
            "Apache-2.0"
        )
        status, out, err = server.stop()
    assert status == 0
    assert out.splitlines()[-1] == "stopped"
    assert err == ""


@pytest.mark.slow
def test_ctrl_c_ends_a_server_that_is_not_loaded_yet() -> None:
    with serving() as server:
        status, out, _ = server.stop()
    assert (status, out.splitlines()[-1]) == (0, "stopped")


@pytest.mark.slow
def test_options_reach_the_server() -> None:
    options = ("--max-sessions", "1", "--idle-timeout-seconds", "90")
    with (
        serving(*options, "--liveness-timeout-seconds", "0", NN_INTERACTIVE_API_KEY="k") as server,
        httpx.Client(base_url=server.url, timeout=SECONDS) as http,
    ):
        assert http.post("/claim").status_code == 401
        http.headers["Authorization"] = "Bearer k"
        claim = http.post("/claim").json()
        assert claim["idle_timeout_seconds"] == 90
        assert claim["liveness_timeout_seconds"] == 0
        assert claim["max_sessions"] == 1
        assert http.post("/claim").status_code == 503


@pytest.mark.slow
def test_it_warns_when_everybody_may_come() -> None:
    with serving("--host", "0.0.0.0") as server:
        assert server.url.startswith(f"http://{socket.gethostname()}:")
        _, _, err = server.stop()
    assert "WARNING" in err
    assert "beyond this machine without a key" in err
    with serving("--host", "0.0.0.0", "--api-key", "k") as server:
        assert "WARNING" not in server.stop()[2]


@pytest.mark.slow
def test_requests_are_logged_when_asked_for_but_never_what_they_say() -> None:
    with serving("--log-level", "debug") as server:
        with httpx.Client(base_url=server.url, timeout=SECONDS) as http:
            http.headers["X-Lease-Token"] = http.post("/claim").json()["lease_token"]
            http.post(
                "/add_point_interaction",
                json={"coordinates": [1234567, 2, 3], "include_interaction": True},
            )
        _, _, err = server.stop()
    assert "DEBUG POST /add_point_interaction" in err
    assert "1234567" not in err


def test_a_port_that_is_taken_is_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, error = run("serve", "--port", str(port))
    assert status == 1
    assert one_line(error)
    assert error.startswith(f"gamt: port {port}: address already in use")
    assert "--port" in error


def test_an_empty_variable_for_the_key_does_not_open_the_server(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NN_INTERACTIVE_API_KEY", "")
    status, error = run("serve", "--port", "0")
    assert status == 2
    assert one_line(error)
    assert "NN_INTERACTIVE_API_KEY: expected ASCII letters" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "192.0.2.1"), "--host 192.0.2.1: found no such address on this machine"),
        (("--host", ""), "--host: expected an address, such as 127.0.0.1"),
        (("--host", "nowhere.invalid"), "--host nowhere.invalid: found no machine of this name"),
        (("--api-key", "schlüssel"), "--api-key: expected ASCII"),
        (("--api-key", " key"), "--api-key: expected ASCII"),
        (("--api-key", ""), "--api-key: expected ASCII"),
        (("--liveness-timeout-seconds", "9"), "seconds 9: expected 0, or 10 or more"),
        (("--segmenter", "nonesuch"), "nonesuch"),
        (("--set", "colour=blue"), "no setting is named 'colour'"),
        (("--window", "wide"), "found 'wide'"),
        (
            ("--propagation", "both"),
            "found 'both' with the segmenter statistical",
        ),
    ],
)
def test_what_can_not_be_meant_is_one_line(
    run: Run, options: tuple[str, ...], message: str
) -> None:
    status, error = run("serve", "--port", "0", *options)
    assert status == 2
    assert one_line(error)
    assert message in error


@pytest.mark.parametrize(
    "options",
    [
        ("--port", "70000"),
        ("--max-sessions", "0"),
        ("--idle-timeout-seconds", "0"),
        ("--liveness-timeout-seconds", "-1"),
        ("--log-level", "loud"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(run: Run, options: tuple[str, ...]) -> None:
    status, error = run("serve", *options)
    assert status == 2
    assert options[0] in error


def test_without_its_packages_it_says_how_to_get_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "find_spec", lambda name: None if name == "blosc2" else object())
    status, error = run("serve")
    assert status == 2
    assert error == "gamt: gamt serve needs blosc2: pip install 'gamt[server]'\n"
