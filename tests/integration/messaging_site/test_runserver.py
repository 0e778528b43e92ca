"""`manage.py runserver` is Daphne's, which serves ASGI; no other process pays for loading it."""

from __future__ import annotations

import subprocess
import sys

from django.apps import apps

from tests.server import ROOT


def test_runserver_serves_asgi_by_daphne() -> None:
    command = [sys.executable, "manage.py", "runserver", "--help"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "--http_timeout" in shown


def test_no_other_process_loads_daphne() -> None:
    assert not apps.is_installed("daphne")
