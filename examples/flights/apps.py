"""The Django app of the flights example."""

from django.apps import AppConfig


class FlightsConfig(AppConfig):
    name = "examples.flights"
