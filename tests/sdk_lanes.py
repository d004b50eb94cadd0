"""The suites that need a server, run with one version of the Tinker SDK after another, each in a folder of its own.

    python -m tests.sdk_lanes                  # 0.25.0, 0.29.1, 0.36.0, 0.38.0 and the newest that the index has
    python -m tests.sdk_lanes 0.25.0 0.38.0    # these

Only the SDK is installed, in front of the packages of the running environment: what it is made of is in all versions.
Printed is a table, version by suite: how many tests passed, how many were skipped, and why.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

from attrs import frozen

VERSIONS = ("0.25.0", "0.29.1", "0.36.0", "0.38.0", "newest")
SUITES = {
    "contract": ("tests/engines/test_wire.py",),
    "resume and runs": ("tests/wire/test_training.py",),
    "reliability": ("tests/wire/test_reliability.py", "tests/wire/test_faults.py"),
    "server and preflight": ("tests/wire/test_server.py", "tests/wire/test_preflight.py"),
    "older SDKs": ("tests/engines/test_sdk.py",),
}
SECONDS = 900
"""The longest that one suite may take."""

ROOT = Path(__file__).parent.parent


@frozen
class Told:
    """What came of one suite with one version."""

    passed: int
    failed: tuple[str, ...]
    skipped: dict[str, int]

    def __str__(self) -> str:
        cell = f"{self.passed} passed"
        if self.failed:
            cell += f", {len(self.failed)} FAILED"
        return cell + (f", {sum(self.skipped.values())} skipped" if self.skipped else "")


def install(version: str, folder: Path) -> str:
    """Put the SDK into *folder*, and say which version it is."""
    wanted = "tinker" if version == "newest" else f"tinker=={version}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), wanted]
    subprocess.run(command, check=True, timeout=300)
    (found,) = folder.glob("tinker-*.dist-info")
    return found.name.removeprefix("tinker-").removesuffix(".dist-info")


def run(files: tuple[str, ...], sdk: Path, report: Path) -> Told:
    """The tests in *files* with the SDK in *sdk*.

    Raises:
        RuntimeError: They did not run.
    """
    found = subprocess.run(
        [sys.executable, "-c", "import tinker; print(tinker.__file__)"],
        env={**os.environ, "PYTHONPATH": str(sdk)},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    if not found.startswith(str(sdk)):
        raise RuntimeError(f"the SDK in {sdk} is hidden by {found.strip()}")
    # A suite of its own for each, so that nothing is left over from the one before.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *files],
        env={**os.environ, "PYTHONPATH": str(sdk)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if not report.is_file():
        raise RuntimeError(f"{' '.join(files)} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return read(report)


def read(report: Path) -> Told:
    """What a report of pytest says."""
    passed, failed, skipped = 0, [], Counter[str]()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        if (skip := case.find("skipped")) is not None:
            skipped[re.sub(r"^Skipped: ", "", skip.get("message", ""))] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        else:
            passed += 1
    return Told(passed, tuple(failed), dict(skipped))


def main(versions: list[str]) -> int:
    """Run every lane; 1 where a test failed or none ran."""
    table: dict[str, dict[str, Told]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, asked in enumerate(versions):
            folder = Path(scratch) / str(number)
            version = install(asked, folder)
            if version in table:
                continue
            table[version] = {
                name: run(files, folder, Path(scratch) / f"{number}-{place}.xml")
                for place, (name, files) in enumerate(SUITES.items())
            }
            print(f"tinker {version}: " + "; ".join(f"{name} {told}" for name, told in table[version].items()))
    print("\n| tinker | " + " | ".join(SUITES) + " |\n| --- |" + " --- |" * len(SUITES))
    for version, lane in table.items():
        print(f"| {version} | " + " | ".join(map(str, lane.values())) + " |")
    for version, lane in table.items():
        for name, told in lane.items():
            for reason, count in told.skipped.items():
                print(f"{version}, {name}: {count} skipped, {reason}")
            for test in told.failed:
                print(f"{version}, {name}: FAILED {test}")
    whole = [told for lane in table.values() for told in lane.values()]
    return int(any(told.failed or not told.passed for told in whole))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or list(VERSIONS)))
