"""The Django app of live push (STOMP, SockJS, server-sent events)."""

from django.apps import AppConfig
from django.core import checks


class RealtimeConfig(AppConfig):
    name = "realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Has `manage.py check` look at message mappings."""
        from realtime.checks import declarations_can_be_read

        checks.register(declarations_can_be_read, "realtime")
