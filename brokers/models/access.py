"""Tokens and grants: who may do what to which resources (see `brokers.access`)."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class ApiToken(models.Model):
    """A bearer token. Only the SHA-256 of its text is kept."""

    token_id = models.CharField(max_length=16, unique=True)
    name = models.CharField(max_length=200)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    secret_sha256 = models.BinaryField(unique=True)
    superuser = models.BooleanField(default=False)
    """Allowed everything, as its owner is; grants do not matter."""
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200, default="")
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "brokers_api_token"

    def __str__(self) -> str:
        return f"{self.name} ({self.token_id})"


class Grant(models.Model):
    """Allows or denies one operation on the resources of a type whose name matches; a denial wins."""

    token = models.ForeignKey(ApiToken, null=True, on_delete=models.CASCADE, related_name="grants")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="grants")
    operation = models.CharField(max_length=16)
    resource_type = models.CharField(max_length=16)
    name = models.CharField(max_length=249, blank=True)
    match = models.CharField(max_length=8, default="literal")
    effect = models.CharField(max_length=8, default="allow")

    class Meta:
        db_table = "brokers_grant"
        constraints = [
            models.CheckConstraint(
                name="brokers_grant_has_one_holder",
                condition=models.Q(token__isnull=False, user__isnull=True)
                | models.Q(token__isnull=True, user__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.effect} {self.operation} {self.resource_type} {self.name!r} ({self.match})"
