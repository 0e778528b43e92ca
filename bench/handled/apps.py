"""The Django app."""

from django.apps import AppConfig


class HandledConfig(AppConfig):
    name = "bench.handled"
    label = "handled"
