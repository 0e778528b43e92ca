"""The Django app."""

from django.apps import AppConfig


class ScheduledConfig(AppConfig):
    name = "bench.scheduled"
    label = "bench_scheduled"
