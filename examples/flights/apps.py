"""The Django app of the flights example."""

from django.apps import AppConfig


class FlightsConfig(AppConfig):
    name = "examples.flights"
    label = "flights"
    default_auto_field = "django.db.models.BigAutoField"
