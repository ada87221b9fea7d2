"""What is said of pip-audit's report, and what fails on it."""

import json
from pathlib import Path

import pytest

from benchmarks.audit import ask, judge, main

FINE = {"name": "numpy", "version": "2.0", "vulns": []}
UNKNOWN = {"name": "own", "skip_reason": "Dependency not found on PyPI"}
BROKEN = {
    "name": "old",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


def test_nothing_found_is_success() -> None:
    assert judge([FINE]) == (["1 packages audited, nothing found"], 0)


def test_a_finding_fails_and_is_named() -> None:
    assert judge([FINE, BROKEN]) == (
        [
            "old 1.0: PYSEC-1, mended in 1.1",
            "old 1.0: PYSEC-2, mended in no version",
            "2 packages audited, see above",
        ],
        1,
    )


def test_a_service_that_knows_nothing_has_not_found_everything_fine() -> None:
    assert judge([UNKNOWN] * 3) == (
        ["not audited: PyPI's advisories know none of 3 packages here"],
        0,
    )


def test_packages_that_the_service_does_not_know_are_named() -> None:
    lines, status = judge([FINE, UNKNOWN])
    assert lines[0] == "not audited: 1 packages that PyPI doesn't know: own"
    assert status == 0


def test_a_service_out_of_reach_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(requirements: Path) -> str:
        raise ConnectionError("no route")

    assert main(["requirements.txt"], fail) == 0
    assert capsys.readouterr().out == (
        "not audited: PyPI's advisories can't be reached: no route\n"
    )
    assert main(["requirements.txt"], lambda _: json.dumps({"dependencies": [BROKEN]})) == 1


@pytest.mark.parametrize("known", [True, False], ids=["out of reach", "knows nothing"])
def test_a_release_is_not_made_unaudited(known: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(requirements: Path) -> str:
        if known:
            raise ConnectionError("no route")
        return json.dumps({"dependencies": [UNKNOWN] * 3})

    assert main(["requirements.txt"], answer) == 0
    assert main(["--must", "requirements.txt"], answer) == 1
    assert main(["--must", "requirements.txt"], lambda _: json.dumps({"dependencies": [FINE]})) == 0
    assert capsys.readouterr().out.count("not audited: ") == 2


def test_a_success_without_a_report_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip_audit.py").write_text("print('all fine')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="no report, but 'all fine"):
        ask(tmp_path / "requirements.txt")


@pytest.mark.slow
def test_no_proxy_that_answers_is_a_service_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    (tmp_path / "requirements.txt").write_text(f"nothing==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ConnectionError):
        ask(tmp_path / "requirements.txt")
