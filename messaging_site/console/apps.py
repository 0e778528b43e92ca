"""Puts the console in the place of Django's own admin site, so that stock admin pages share its shell."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AdminConfig):
    """Stands for `django.contrib.admin` in INSTALLED_APPS."""

    default_site = "messaging_site.console.site.ConsoleSite"
