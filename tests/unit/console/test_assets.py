"""The console's own files stay small, ask no other host, and its error pages need no request to be drawn."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from django.template.loader import render_to_string

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "static"


def compressed(kind: str) -> int:
    """Bytes after gzip of the files of a kind that a page of the console loads, all of them together."""
    pages = "".join(path.read_text() for path in (ROOT / "templates").rglob("*.html"))
    loaded = set(re.findall(rf'{{% static "([^"]+\.{kind})" %}}', pages))
    return sum(len(gzip.compress((STATIC / name).read_bytes())) for name in loaded)


def test_scripts_and_styles_keep_to_their_budgets() -> None:
    assert compressed("js") < 40_000
    assert compressed("css") < 25_000


def test_nothing_is_loaded_from_another_host() -> None:
    ours = [*(STATIC / "console").rglob("*.*"), *(ROOT / "templates").rglob("*.html")]
    for path in ours:
        loaded = re.findall(r"(?:src|href|url|import)\s*[=(]?\s*[\"']?(?:https?:)?//", path.read_text())
        assert not loaded, path


def test_templates_mark_nothing_as_safe() -> None:
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text()
        assert "|safe" not in text, path
        assert "autoescape off" not in text, path


@pytest.mark.parametrize("name", ["400.html", "403.html", "403_csrf.html", "404.html", "500.html"])
def test_error_pages_are_drawn_without_a_request(name: str) -> None:
    assert "<h1>" in render_to_string(name)
