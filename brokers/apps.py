"""The Django app of the topic log, consumer groups, exchanges and queues."""

from django.apps import AppConfig


class BrokersConfig(AppConfig):
    name = "brokers"
    default_auto_field = "django.db.models.BigAutoField"
