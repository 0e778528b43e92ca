"""Clients under node, from npm, unmodified. Where there is no node, or npm cannot get them, tests are skipped."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from tests.server import ROOT

CLIENTS = ROOT / "tests" / "clients"


def installed() -> None:
    """Installs the packages once; skips the test with the reason when they cannot be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None:
        pytest.skip("there is no node on this machine")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=20).stdout
    found = re.match(r"v([0-9]+)", version)
    if found is None or int(found[1]) < 20:
        pytest.skip(f"node {version.strip()} is older than 20")
    if subprocess.run([node, "-e", _REQUIRED], cwd=CLIENTS, capture_output=True, timeout=20).returncode == 0:
        return
    if npm is None:
        pytest.skip("there is no npm on this machine")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(command, cwd=CLIENTS, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not get the clients within 90 s")
    if done.returncode != 0:
        pytest.skip(f"npm cannot get the clients: {done.stderr.strip()[-300:]}")


_REQUIRED = "for (const name of ['@stomp/stompjs', 'sockjs-client', 'ws']) require(name)"


def start(program: str, **given: Any) -> subprocess.Popen[str]:
    """Starts a program of `tests/clients` with what it is given as JSON."""
    return subprocess.Popen(
        ["node", program, json.dumps(given)], cwd=CLIENTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def result(process: subprocess.Popen[str], seconds: float = 60) -> dict[str, Any]:
    """The last line that the program printed; fails with its errors when it did not end well."""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"the program did not end:\n{output}\n{errors}") from None
    assert process.returncode == 0, f"{output}\n{errors}"
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found
