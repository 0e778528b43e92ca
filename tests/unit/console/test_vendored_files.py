"""What is vendored under static/vendor is what VENDOR.json says, with its licence, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

VENDOR = Path(__file__).parents[3] / "static" / "vendor"


def entries() -> list[dict[str, str]]:
    """The lines of VENDOR.json."""
    listed: list[dict[str, str]] = json.loads((VENDOR / "VENDOR.json").read_text())
    return listed


def test_each_file_has_its_recorded_hash_and_its_licence() -> None:
    for entry in entries():
        assert hashlib.sha256((VENDOR / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
        assert (VENDOR / entry["licence_file"]).stat().st_size > 0


def test_every_file_is_recorded() -> None:
    recorded = {name for entry in entries() for name in (entry["file"], entry["licence_file"])} | {"VENDOR.json"}
    present = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()}
    assert present == recorded
