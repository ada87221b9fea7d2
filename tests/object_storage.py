"""Object storage on this machine, for tests: moto's server, and a proxy that breaks connections."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
import requests
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer


class ObjectStorage:
    """A server of S3's protocol, with one bucket.

    Attributes:
        address: of the server, such as ``http://127.0.0.1:1234``.
        bucket: the bucket's name.
    """

    bucket = "scans"

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = boto3.client("s3", endpoint_url=address, **_LOGIN)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which clients find the server and its credentials."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": _LOGIN["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": _LOGIN["aws_secret_access_key"],
            "AWS_DEFAULT_REGION": _LOGIN["region_name"],
        }

    def reset(self) -> None:
        """Forgets all objects, and whom to refuse."""
        requests.post(f"{self.address}/moto-api/reset", timeout=60)
        requests.post(f"{self.address}/moto-api/reset-auth", b"Infinity", timeout=60)
        self._client.create_bucket(Bucket=self.bucket)

    def refuse_strangers(self) -> None:
        """Refuses every request from now on: the server knows nobody's key."""
        requests.post(f"{self.address}/moto-api/reset-auth", b"0", timeout=60)

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def put_many(self, keys: Iterable[str]) -> None:
        """Puts empty objects, in a fraction of the time that requests would take."""
        backend = s3_backends["123456789012"]["aws"]
        for key in keys:
            backend.put_object(self.bucket, key, b"")

    def get(self, key: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=key)

    def list_keys(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def count_uploads(self) -> int:
        """Returns how many uploads in parts are neither completed nor aborted."""
        return len(self._client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))


_LOGIN: dict[str, Any] = {
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "region_name": "us-east-1",
}


@contextmanager
def serve_objects() -> Iterator[ObjectStorage]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield ObjectStorage(f"http://{host}:{port}")
    finally:
        server.stop()


@contextmanager
def proxy(target: str, most_bytes: Callable[[bytes], int | None]) -> Iterator[str]:
    """Passes bytes on to a server, and breaks connections.

    Args:
        target: the server's address.
        most_bytes: takes what a client has just sent, and returns after how many bytes of the
            answer its connection breaks, 0 for a request that doesn't reach the server; None for
            one that doesn't break.

    Yields:
        The proxy's address.
    """
    upstream = urlsplit(target).hostname, urlsplit(target).port
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(upstream) as server:
            left: list[int | None] = [None]

            def answer() -> None:
                while content := _receive(server):
                    most = left[0]
                    if most is None:
                        client.sendall(content)
                        continue
                    client.sendall(content[:most])
                    left[0] = most - len(content[:most])
                    if not left[0]:
                        break
                _hang_up(client)

            thread = threading.Thread(target=answer, daemon=True)
            thread.start()
            while content := _receive(client):
                if (most := most_bytes(content)) is not None:
                    left[0] = most
                    if not most:
                        break
                server.sendall(content)
            _hang_up(server)
            thread.join()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        _hang_up(listener)
        listener.close()


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # the other side has
        connection.shutdown(socket.SHUT_RDWR)
