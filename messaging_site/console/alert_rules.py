"""The form of an alert rule among Django's own admin pages: checked, audited, its secret never shown again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from brokers import audit
from brokers.alerts.figures import OF_QUEUES, firings_of_a_day
from brokers.models import AlertRule
from messaging_site.console import alert_words
from messaging_site.console.permissions import actor

if TYPE_CHECKING:
    _RuleForm = forms.ModelForm[AlertRule]
    _RuleAdmin = admin.ModelAdmin[AlertRule]
else:  # generic for the type checker only
    _RuleForm, _RuleAdmin = forms.ModelForm, admin.ModelAdmin

_PATTERN = re.compile(r"[A-Za-z0-9._-]{0,248}(?:[A-Za-z0-9._-]|\*)?", re.ASCII)
_AUDITED = (
    "name",
    "metric",
    "source",
    "group_name",
    "threshold",
    "for_seconds",
    "severity",
    "to_log",
    "emails",
    "webhook_url",
    "runbook_url",
    "enabled",
)


class AlertRuleForm(_RuleForm):
    """A rule's fields; the webhook's secret can be given and taken away, and not be read."""

    new_secret = forms.CharField(
        label="Webhook secret",
        required=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    forget_secret = forms.BooleanField(label="Forget the secret", required=False, help_text="Calls are then unsigned.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "new_secret" in self.fields:
            self.fields["new_secret"].help_text = (
                "One is set and cannot be shown. Leave this empty to keep it."
                if self.instance.webhook_secret
                else "Signs each call, so that its receiver can tell where it is from."
            )

    def clean_source(self) -> str:
        """A name, or the beginning of one."""
        return _pattern(self.cleaned_data["source"])

    def clean_group_name(self) -> str:
        """A name, or the beginning of one."""
        return _pattern(self.cleaned_data["group_name"])

    def clean_threshold(self) -> float:
        """More than nothing: a figure of 0 never raises an alert."""
        value = float(self.cleaned_data["threshold"])
        if value <= 0:
            raise ValidationError("Give a number above 0.")
        return value

    def clean(self) -> dict[str, Any]:
        """A new secret and none at all cannot both be wanted, nor a consumer group of a queue."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("new_secret") and cleaned.get("forget_secret"):
            self.add_error("forget_secret", "Give a new secret or forget the old one, not both.")
        if cleaned.get("metric") in OF_QUEUES and cleaned.get("group_name"):
            self.add_error("group_name", "No consumer group reads a queue: leave this empty.")
        return cleaned


def _pattern(text: str) -> str:
    text = text.strip()
    if not _PATTERN.fullmatch(text):
        raise ValidationError("Only A-Z a-z 0-9 . _ - are allowed, and one * at the end.")
    return text


class AlertRuleAdmin(_RuleAdmin):
    """Rules under Django's model permissions. Whoever may only view them sees no more of a webhook than its host."""

    form = AlertRuleForm
    list_display = ("name", "metric", "covers", "condition", "severity", "enabled")
    list_filter = ("metric", "enabled")
    search_fields = ("name", "source", "group_name")
    ordering = ("name",)
    readonly_fields = ("past", "webhook_host")

    _WATCHED: ClassVar[tuple[str, ...]] = ("name", "enabled", "metric", "source", "group_name", "threshold")

    @admin.display(description="covers")
    def covers(self, rule: AlertRule) -> str:
        """What a rule looks at."""
        return alert_words.covers(rule)

    @admin.display(description="raised at")
    def condition(self, rule: AlertRule) -> str:
        """What a rule waits for."""
        return alert_words.condition(rule)

    @admin.display(description="webhook")
    def webhook_host(self, rule: AlertRule) -> str:
        """Where calls go, without what may be secret in an address."""
        return alert_words.web_host(rule.webhook_url) or "none"

    @admin.display(description="as things are")
    def past(self, rule: AlertRule) -> str:
        """The newest figure, and how often the rule would have been raised."""
        if rule.pk is None:
            return "Known once the rule is saved."
        told = "No figure yet." if rule.highest is None else ""
        if rule.highest is not None:
            told = f"The highest figure is {alert_words.figure(rule.metric, rule.highest)} now."
        times = firings_of_a_day(rule)
        if times is not None:
            told += (
                f" As saved it would have been raised {times:,} time{'' if times == 1 else 's'} in the last 24 hours."
            )
        return told

    def get_fieldsets(self, request: HttpRequest, obj: AlertRule | None = None) -> Any:
        """Fields in groups; addresses and secrets only for who may change the rule."""
        may_change = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        webhook: tuple[str, ...] = ("webhook_url", "new_secret") if may_change else ("webhook_host",)
        if may_change and obj is not None and obj.webhook_secret:
            webhook += ("forget_secret",)
        return (
            (None, {"fields": (*self._WATCHED, "for_seconds", "severity", "past")}),
            ("Notifications", {"fields": ("to_log", "emails", *webhook, "runbook_url")}),
        )

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        """Saves the rule with its audit entry."""
        before = AlertRule.objects.select_for_update().filter(pk=obj.pk).first() if change else None
        if form.cleaned_data.get("forget_secret"):
            obj.webhook_secret = ""
        elif secret := form.cleaned_data.get("new_secret"):
            obj.webhook_secret = secret
        if change:
            # Not what the evaluation wrote meanwhile.
            obj.save(update_fields=[*_AUDITED, "webhook_secret"])
        else:
            obj.save()
        audit.record(actor(request), "alter" if change else "create", "alert_rule", obj.name, _details(before, obj))

    def delete_model(self, request: HttpRequest, obj: AlertRule) -> None:
        """Deletes the rule and all that it raised, with an audit entry."""
        self._delete(request, [obj.pk])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        """Deletes several, each with an audit entry."""
        self._delete(request, list(queryset.values_list("pk", flat=True)))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Names the rules; what they raised goes with them and is not listed."""
        denied = set() if self.has_delete_permission(request) else {"alert rule"}
        return [str(rule) for rule in objs], {"alert rules": len(objs)}, denied, []

    def _delete(self, request: HttpRequest, numbers: Iterable[int]) -> None:
        with transaction.atomic():
            # The lock keeps an evaluation from raising something in between.
            for rule in AlertRule.objects.select_for_update().filter(pk__in=numbers).order_by("pk"):
                audit.record(actor(request), "delete", "alert_rule", rule.name, _details(rule, None))
                rule.delete()


def _details(before: AlertRule | None, after: AlertRule | None) -> dict[str, Any]:
    """What changed, for the audit record: no secret, and of a webhook's address only its beginning."""
    old, new = (_shown(rule) if rule else {} for rule in (before, after))
    changed = [name for name in _AUDITED if old.get(name) != new.get(name)]
    told: dict[str, Any] = {
        "before": {name: old[name] for name in changed if name in old},
        "after": {name: new[name] for name in changed if name in new},
    }
    if before and after and before.webhook_url != after.webhook_url:
        told["webhook_url"] = "changed"
    if before and after and before.webhook_secret != after.webhook_secret:
        told["webhook_secret"] = "changed" if after.webhook_secret else "removed"
    return told


def _shown(rule: AlertRule) -> dict[str, Any]:
    found = {name: getattr(rule, name) for name in _AUDITED}
    if rule.webhook_url:
        parts = urlsplit(rule.webhook_url)
        found["webhook_url"] = f"{parts.scheme}://{parts.netloc}/…"
    return found
