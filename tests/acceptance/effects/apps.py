"""The Django app."""

from django.apps import AppConfig


class EffectsConfig(AppConfig):
    name = "tests.acceptance.effects"
    label = "effects"
