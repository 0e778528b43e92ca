"""The Django app of live push (STOMP, SockJS, server-sent events)."""

from django.apps import AppConfig
from django.core import checks
from django.db.models.signals import post_delete


class RealtimeConfig(AppConfig):
    name = "realtime"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Has `manage.py check` look at message mappings, and what is past its time forgotten."""
        from django.contrib.auth import get_user_model

        from brokers.housekeeping import add
        from realtime.checks import declarations_can_be_read
        from realtime.housekeeping import JOB, forget_user

        checks.register(declarations_can_be_read, "realtime")
        add(JOB)
        post_delete.connect(forget_user, sender=get_user_model(), dispatch_uid="realtime.forget_user")
