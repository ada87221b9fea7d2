"""The container with the server, by a real engine and nnInteractive's own client."""

import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import numpy as np
import pytest
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as RemoteSession

from benchmarks.image import ROOT, Image

pytestmark = pytest.mark.container

KEY = "only for this test"
PATIENCE_S = 60


class Running(NamedTuple):
    """A container that runs the server.

    Attributes:
        image: that it runs.
        name: of the container.
        url: of the server.
    """

    image: Image
    name: str
    url: str


@pytest.fixture(scope="module")
def running(engine: str) -> Iterator[Running]:
    """The server on a read-only root, as an unknown user, on the host's own network."""
    image = Image(engine, "gamt-serve-under-test")
    image.build(ROOT, "--build-arg", "SERVER=yes")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    name = f"gamt-serve-{uuid.uuid4().hex}"
    image.call(
        *("container", "run", "--detach", "--init", "--name", name, "--network", "host"),
        *("--read-only", "--tmpfs", "/tmp", "--user", "12345"),
        *("--env", f"NN_INTERACTIVE_API_KEY={KEY}"),
        *(f"{image.name}:latest", "python", "-P", "-m", "gamt", "serve", "--port", str(port)),
    )
    url = f"http://127.0.0.1:{port}"
    wait_until_healthy(url)
    yield Running(image, name, url)
    image.call("container", "rm", "--force", name)
    image.remove()


def wait_until_healthy(url: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
            return
        except httpx.HTTPError:
            assert time.monotonic() < until, "the server doesn't answer"
            time.sleep(0.1)


def test_make_docker_serve_runs_it_and_watches_its_health(engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    image = Image(engine, "gamt-serve")
    command = ["make", "docker-serve", f"ENGINE={engine}", f"PORT={port}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as make:
        assert make.stdout is not None
        assert any(f"http://localhost:{port}" in line for line in make.stdout)
        until, status = time.monotonic() + PATIENCE_S, ""
        while status != "healthy" and time.monotonic() < until:
            time.sleep(0.5)
            status = image.call("inspect", "--format", "{{.State.Health.Status}}", "gamt-serve")
            status = status.strip()
        log = image.call("logs", "gamt-serve")
        image.call("stop", "--time", "20", "gamt-serve")
        make.stdout.read()  # under another make, it prints at its end, too
    image.remove()
    assert status == "healthy", log
    assert make.returncode == 0


def test_the_image_holds_the_page_of_gamt_annotate(running: Running) -> None:
    ask = "from gamt.server.annotate.page import is_built; print(is_built())"
    told = running.image.call("container", "exec", running.name, "python", "-P", "-c", ask)
    assert told.strip() == "True"


def test_a_click_is_answered(running: Running) -> None:
    image = np.full((1, 9, 20, 24), 40, np.int16)
    image[:, 3:6, 6:14, 8:18] = 160  # 3 * 8 * 10 voxels
    session = RemoteSession(server_url=running.url, api_key=KEY)
    session.set_image(image, {"spacing": [3.0, 1.0, 1.0]})
    target = np.zeros(image.shape[1:], np.uint8)
    session.set_target_buffer(target)
    session.add_point_interaction((4, 10, 13), include_interaction=True)
    session.close()
    np.testing.assert_array_equal(target, image[0] > 100)


def test_it_ends_by_itself_when_it_is_told_to(running: Running) -> None:
    running.image.call("stop", "--time", "20", running.name)
    code = running.image.call("inspect", "--format", "{{.State.ExitCode}}", running.name)
    # 128 + SIGTERM; 137 would be SIGKILL, after 20 s
    assert code.strip() == "143", running.image.call("logs", running.name)
