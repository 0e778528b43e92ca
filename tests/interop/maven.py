"""Java programs of the interop tests: compiled once by Maven, and skipped with the reason where that cannot be."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server import ROOT

BUILD_SECONDS = 240.0


def compiled(project: Path, library: str) -> Path:
    """Where the classes and libraries of a project are; its sources decide whether they are made anew."""
    for program in ("java", "javac", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")
    sources = [project / "pom.xml", *sorted((project / "src").rglob("*.java"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    output = ROOT / "var" / "interop" / f"{project.name}-{digest}"
    if (output / "done").exists():
        return output
    command = ["mvn", "-q", "-B", "-f", str(project / "pom.xml"), f"-Doutput={output}", "compile"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"Maven could not get {library} within {BUILD_SECONDS:g} s")
    assert "COMPILATION ERROR" not in done.stdout, done.stdout
    if done.returncode != 0:
        pytest.skip(f"Maven cannot get {library}, or this Java is older than 17 (mvn ended with {done.returncode})")
    (output / "done").touch()
    return output
