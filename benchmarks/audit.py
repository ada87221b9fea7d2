"""Looks up locked packages in PyPI's advisories; ``make audit`` runs it.

    python -m benchmarks.audit [--must] out/requirements.txt

pip-audit finds nothing wrong with a package that the service doesn't know, nor with any where a
mirror answers in its place. Here that is said. Exit status: 1 with a finding. Where the service
can't be reached, or knows no package at all, it is 0, so that a machine without it can check all
else; with ``--must``, as on GitHub before a release, it is 1.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

NAMED = 10
"""How many packages that the service doesn't know are named."""

UNREACHABLE = ("requests.exceptions.", "urllib3.exceptions.", "ServiceError")
"""How the last lines of pip-audit begin, or end, where nobody answers."""


def ask(requirements: Path) -> str:
    """Runs pip-audit on a file of requirements with hashes; returns its report in JSON.

    Raises:
        ConnectionError: the service can't be reached.
        subprocess.CalledProcessError: pip-audit failed otherwise.
        RuntimeError: it printed something else.
    """
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner", "off"]
    arguments = ["--format", "json", "--requirement", str(requirements)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.stdout.startswith("{"):
        return done.stdout
    last = (done.stderr.strip().splitlines() or [""])[-1]
    if any(word in last for word in UNREACHABLE):
        raise ConnectionError(last)
    sys.stderr.write(done.stderr)
    done.check_returncode()
    raise RuntimeError(f"pip-audit printed no report, but {done.stdout[:99]!r}")


def judge(packages: Sequence[Mapping[str, Any]], unaudited: int = 0) -> tuple[list[str], int]:
    """Returns what to say of pip-audit's report, line by line, and the exit status.

    Args:
        packages: the report's ``dependencies``.
        unaudited: the exit status where the service knows none of them.
    """
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if packages and len(unknown) == len(packages):
        return [
            f"not audited: PyPI's advisories know none of {len(packages)} packages here"
        ], unaudited
    lines = [
        f"{package['name']} {package['version']}: {one['id']}, mended in "
        f"{', '.join(one['fix_versions']) or 'no version'}"
        for package in packages
        for one in package.get("vulns", ())
    ]
    status = 1 if lines else 0
    if unknown:
        names = ", ".join(unknown[:NAMED]) + (" ..." if len(unknown) > NAMED else "")
        lines.append(f"not audited: {len(unknown)} packages that PyPI doesn't know: {names}")
    known = len(packages) - len(unknown)
    lines.append(f"{known} packages audited, {'see above' if status else 'nothing found'}")
    return lines, status


def main(arguments: Sequence[str], ask: Callable[[Path], str] = ask) -> int:
    """Audits a file of requirements; returns the exit status."""
    *options, requirements = arguments
    unaudited = 1 if options == ["--must"] else 0
    try:
        report = ask(Path(requirements))
    except ConnectionError as error:
        print(f"not audited: PyPI's advisories can't be reached: {error}")
        return unaudited
    lines, status = judge(json.loads(report)["dependencies"], unaudited)
    print("\n".join(lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
