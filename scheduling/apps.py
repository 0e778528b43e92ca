"""The Django app of locks, scheduled tasks and background work."""

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    name = "scheduling"
