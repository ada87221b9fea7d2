"""Who gets to the page, and with which headers."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gamt.server.annotate.annotator import Annotator
from tests.server.annotate.annotating import KEY, SECONDS, Page, annotating


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "main.js").write_text("export {};")
    (folder.parent / "secret.txt").write_text("secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        with annotating(page=folder) as url:
            yield url


def ask(url: str, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, f"{url}/annotate/{path}", headers=named, timeout=SECONDS)


def cookie_of(url: str) -> str:
    return f"gamt-{url.rpartition(':')[2]}={KEY}"


def test_the_key_in_the_address_becomes_a_cookie_that_no_script_sees(url: str) -> None:
    answer = ask(url, f"?key={KEY}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/annotate/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(cookie_of(url))
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/annotate"):
        assert attribute in cookie
    with Page(url) as page:
        assert "<title>page</title>" in page.http.get("./").text
        assert page.http.get("main.js").headers["content-type"].startswith("text/javascript")


def test_the_address_without_its_slash_leads_to_the_one_with_it(url: str) -> None:
    answer = httpx.get(f"{url}/annotate?key={KEY}", timeout=SECONDS)
    assert (answer.status_code, answer.headers["location"]) == (307, f"/annotate/?key={KEY}")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["", "main.js", "api/state", "api/events", "api/unknown"])
@pytest.mark.parametrize("cookie", ["", "gamt-1=x", "{name}=wrong", "{name}=", ";;=\x01"])
def test_without_the_cookie_there_is_nothing(url: str, path: str, cookie: str) -> None:
    name = cookie_of(url).partition("=")[0]
    answer = ask(url, path, Cookie=cookie.replace("{name}", name))
    assert answer.status_code == 401
    assert "gamt annotate" in answer.text


@pytest.mark.parametrize("key", ["", "wrong", f"{KEY}x", "%00", "\xfc"])
def test_another_key_gives_no_cookie(url: str, key: str) -> None:
    answer = ask(url, f"?key={key}")
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_key_opens_nothing_but_the_page(url: str) -> None:
    assert ask(url, f"api/state?key={KEY}").status_code == 401
    assert ask(url, f"main.js?key={KEY}").status_code == 401
    assert ask(url, f"/?key={KEY}").status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.:1", "[", "", "127.0.0.1:x"]
)
def test_under_a_name_that_is_not_this_machines_there_is_nothing(url: str, host: str) -> None:
    answer = ask(url, "api/state", Host=host, Cookie=f"gamt-80={KEY}; {cookie_of(url)}")
    assert answer.status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost:1234", "127.0.0.1:1234", "[::1]:1234"])
def test_through_a_tunnel_the_browser_knows_another_port(url: str, host: str) -> None:
    answer = ask(url, f"?key={KEY}", Host=host)
    assert answer.headers["set-cookie"].startswith(f"gamt-1234={KEY}")
    assert ask(url, "api/state", Host=host, Cookie=f"gamt-1234={KEY}").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[x"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_sites_page_gets_nothing(url: str, method: str, headers: dict[str, str]) -> None:
    path = "api/state" if method == "GET" else "api/cancel"
    assert ask(url, path, method, Cookie=cookie_of(url), **headers).status_code == 403


def test_a_post_that_no_page_has_made_is_refused(url: str) -> None:
    refused = ask(url, "api/cancel", "POST", Cookie=cookie_of(url), Sec_Fetch_Site="none")
    assert refused.status_code == 403
    opened = ask(url, "api/state", Cookie=cookie_of(url), Sec_Fetch_Site="none")
    assert opened.status_code == 200


def test_the_own_page_is_let_through(url: str) -> None:
    headers = {"Origin": url, "Sec_Fetch_Site": "same-origin", "Cookie": cookie_of(url)}
    assert ask(url, "api/cancel", "POST", **headers).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "..%5csecret.txt",
        "./../../secret.txt",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "main.js%00",
    ],
)
def test_no_path_leads_out_of_the_page(url: str, path: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=SECONDS)
    connection.request("GET", f"/annotate/{path}", headers={"Cookie": cookie_of(url)})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status in (400, 401, 404)
    assert b"secret" not in content.replace(path.encode(), b"")


def check_headers(answer: httpx.Response) -> None:
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_all_answers_have_strict_headers(url: str) -> None:
    for path in ("", "main.js", "unknown.js", "api/state", "api/unknown", "?key=wrong"):
        check_headers(ask(url, path, Cookie=cookie_of(url)))
    assert ask(url, "api/state", Cookie=cookie_of(url)).headers["cache-control"] == "no-store"


def test_so_has_the_answer_where_the_server_failed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Annotator) -> None:
        raise TypeError("found a mistake of ours")

    monkeypatch.setattr(Annotator, "describe", fail)
    answer = ask(url, "api/state", Cookie=cookie_of(url))
    assert answer.status_code == 500
    assert answer.headers["cache-control"] == "no-store"
    check_headers(answer)


def test_the_protocol_of_the_viewers_takes_the_same_key(url: str) -> None:
    assert httpx.post(f"{url}/claim").status_code == 401
    allowed = httpx.post(f"{url}/claim", headers={"Authorization": f"Bearer {KEY}"})
    assert allowed.status_code == 200


def test_a_page_that_is_not_built_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with annotating(page=tmp_path / "none") as url, Page(url) as page:
        answer = page.http.get("./")
        assert answer.status_code == 503
        assert "make page" in answer.text
