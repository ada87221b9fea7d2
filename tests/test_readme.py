"""The README's Python, as a reader would run it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_snippets_run_one_after_the_other_and_print_what_they_say(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    snippets = re.findall(r"```python\n(.*?)```", Path("README.md").read_text("utf-8"), re.DOTALL)
    code = "\n".join(snippets)
    exec(code, {})
    said = re.findall(r"print\(.*\)  # .*: (.+)", code)
    assert said
    assert capsys.readouterr().out.splitlines() == said
