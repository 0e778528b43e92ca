"""The Django app of live push (STOMP, SockJS, server-sent events); it holds nothing yet."""

from django.apps import AppConfig


class RealtimeConfig(AppConfig):
    name = "realtime"
