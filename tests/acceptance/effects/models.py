"""What the listener writes. No constraint keeps an effect from being there twice: the tests look for that."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Effect(models.Model):
    """One record handled."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10)
    record_key = models.CharField(max_length=100)
    partition = models.IntegerField()
    record_offset = models.BigIntegerField()
    worker = models.IntegerField()

    objects: ClassVar[models.Manager[Effect]] = models.Manager()

    class Meta:
        db_table = "effects_effect"

    def __str__(self) -> str:
        return self.name
