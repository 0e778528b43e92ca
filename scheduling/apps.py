"""The Django app of locks, scheduled tasks and background work; it holds nothing yet."""

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    name = "scheduling"
