"""Operators' periodic tasks among Django's own admin pages: django-celery-beat's forms, cut to what this server does.

Queues, routing, headers and solar schedules are not offered, since the beat does not follow them
(`scheduling.beat.mirror`); a schedule that it could not follow is refused when it is saved. Changes are audited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import QuerySet
from django.forms import SplitDateTimeField
from django.http import HttpRequest
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from brokers import audit
from messaging_site.console.permissions import actor, may
from scheduling.beat import mirror
from scheduling.celery_app import TASK, app
from scheduling.errors import InvalidSchedule, TaskNotFound
from scheduling.models import ScheduledTask
from scheduling.tasks import control, store

_AUDITED: Final = (
    "name",
    "task",
    "enabled",
    "interval_id",
    "crontab_id",
    "clocked_id",
    "one_off",
    "start_time",
    "expires",
    "args",
    "kwargs",
)
_ONE: Final = "Choose one of interval, crontab and clocked."
_HELP: Final = {
    "name": "It stands under this name among the scheduled tasks.",
    "task": "For a task that only the workers know.",
    "enabled": "It is never due while it is not.",
    "description": "",
    "interval": _ONE,
    "crontab": _ONE,
    "clocked": _ONE,
    "start_time": "It is not due before then.",
    "expires": "It is not due after then.",
    "one_off": "It runs one time, and is then disabled.",
    "args": 'A JSON array, such as ["EWR", 2].',
    "kwargs": 'A JSON object, such as {"airport": "EWR"}.',
}


class DateAndTime(AdminSplitDateTime):
    """Django's two fields of an instant, each with a name of its own for assistive technology."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs)
        for widget, name in zip(self.widgets, ("Date (UTC)", "Time (UTC)"), strict=True):
            widget.attrs["aria-label"] = name


_OVERRIDES: Final = {models.DateTimeField: {"form_class": SplitDateTimeField, "widget": DateAndTime}}


class KnownTasks(beat_admin.TaskSelectWidget):  # type: ignore[misc]  # the library has no types
    """Celery tasks of this server's apps, by name."""

    celery_app = app

    def tasks_as_choices(self) -> tuple[tuple[str, str], ...]:
        """All but Celery's own and the one that runs ours."""
        self.celery_app.loader.import_default_modules()
        names = sorted(name for name in self.celery_app.tasks if not name.startswith("celery.") and name != TASK)
        return (("", "—"), *((name, name) for name in names))


class KnownTaskField(beat_admin.TaskChoiceField):  # type: ignore[misc]
    """A choice among them."""

    widget = KnownTasks


class PeriodicTaskForm(beat_admin.PeriodicTaskForm):  # type: ignore[misc]
    """A periodic task's fields."""

    regtask = KnownTaskField(
        label="Task", required=False, help_text="A Celery task (@shared_task) that this server knows."
    )

    class Meta:
        model = PeriodicTask
        exclude: ClassVar[tuple[str, ...]] = (
            "solar",
            "queue",
            "exchange",
            "routing_key",
            "headers",
            "priority",
            "expire_seconds",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "task" in self.fields:
            self.fields["task"].label = "Or its name"
        for name, text in _HELP.items():
            if name in self.fields:
                self.fields[name].help_text = text
        for name in ("description", "args", "kwargs"):
            if name in self.fields:
                self.fields[name].widget.attrs["rows"] = 3

    def clean_name(self) -> str:
        """A name that no task in code has: two schedules of one name cannot run."""
        name = str(self.cleaned_data["name"])
        if ScheduledTask.objects.filter(name=name, source=store.CODE, is_declared=True).exists():
            raise ValidationError("A task that is declared in code has this name.")
        return name

    def clean(self) -> dict[str, Any]:
        """A task that is not named is said so at its field."""
        cleaned: dict[str, Any] = self.cleaned_data
        if not (cleaned.get("regtask") or cleaned.get("task")):
            self.add_error("task", "Choose a task, or give its name.")
            return cleaned
        return super().clean() or cleaned

    def _post_clean(self) -> None:
        super()._post_clean()
        if self.errors:
            return
        try:
            mirror.trigger_of(self.instance)
        except (InvalidSchedule, ValueError) as error:
            self.add_error(None, f"The schedule cannot be followed: {error}")


class PeriodicTaskAdmin(beat_admin.PeriodicTaskAdmin):  # type: ignore[misc]
    """Periodic tasks under Django's model permissions."""

    form = PeriodicTaskForm
    formfield_overrides: ClassVar[Any] = _OVERRIDES
    celery_app = app
    change_form_template = None
    date_hierarchy = None
    list_display = ("name", "enabled", "scheduler", "last_run_at", "total_run_count", "one_off")
    list_filter = ("enabled", "one_off")
    ordering = ("name",)
    actions = ("enable_tasks", "disable_tasks", "run_tasks")
    readonly_fields = ("last_run_at", "total_run_count")
    fieldsets = (
        (None, {"fields": ("name", "regtask", "task", "enabled", "description")}),
        ("Schedule", {"fields": ("interval", "crontab", "clocked", "start_time", "expires", "one_off")}),
        ("Arguments", {"fields": ("args", "kwargs")}),
        ("So far", {"fields": ("last_run_at", "total_run_count")}),
    )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list; without the library's warning of a scheduler that ours stands in for."""
        return admin.ModelAdmin.changelist_view(self, request, extra_context)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A new one is enabled, and calls without arguments."""
        given: dict[str, Any] = super().get_changeform_initial_data(request)
        return {"enabled": True, "args": "[]", "kwargs": "{}"} | given

    @admin.action(description="Enable selected periodic tasks", permissions=["change"])
    def enable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Has them run by their schedules."""
        self._switch(request, queryset, True)

    @admin.action(description="Disable selected periodic tasks", permissions=["change"])
    def disable_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Takes them out, as long as nobody enables them."""
        self._switch(request, queryset, False)

    @admin.action(description="Run selected periodic tasks now", permissions=["view"])
    def run_tasks(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Asks for a run of each, with a row in its history."""
        asked, refused = 0, []
        for name in queryset.values_list("name", flat=True):
            try:
                if not may(request, "alter", "schedule", name):
                    raise TaskNotFound(name)
                control.run_now(name, actor=actor(request))
                asked += 1
            except TaskNotFound:
                refused.append(name)
        if asked:
            self.message_user(request, f"{asked} run{'' if asked == 1 else 's'} asked for.", messages.SUCCESS)
        if refused:
            names = ", ".join(refused[:5])
            text = f"Not run, because it is disabled, just made, or you lack alter on its schedule: {names}"
            self.message_user(request, text, messages.WARNING)

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: Any, change: bool) -> None:
        """Saves it with its audit entry."""
        before = PeriodicTask.objects.filter(pk=obj.pk).first() if change else None
        obj.save()
        audit.record(actor(request), "alter" if change else "create", "schedule", obj.name, _details(before, obj))

    def delete_model(self, request: HttpRequest, obj: PeriodicTask) -> None:
        """Deletes it with an audit entry; its history stays."""
        self._delete(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PeriodicTask]) -> None:
        """Deletes several, each with an audit entry."""
        self._delete(request, list(queryset))

    def _delete(self, request: HttpRequest, tasks: Sequence[PeriodicTask]) -> None:
        with transaction.atomic():
            for task in tasks:
                audit.record(actor(request), "delete", "schedule", task.name, _details(task, None))
                task.delete()

    def _switch(self, request: HttpRequest, queryset: QuerySet[PeriodicTask], enabled: bool) -> None:
        with transaction.atomic():
            changed = list(queryset.select_for_update(of=("self",)).exclude(enabled=enabled).order_by("pk"))
            queryset.filter(pk__in=[task.pk for task in changed]).update(enabled=enabled)
            PeriodicTasks.update_changed()
            for task in changed:
                details = {"before": {"enabled": not enabled}, "after": {"enabled": enabled}}
                audit.record(actor(request), "alter", "schedule", task.name, details)
        word = "enabled" if enabled else "disabled"
        self.message_user(
            request, f"{len(changed)} periodic task{'' if len(changed) == 1 else 's'} {word}.", messages.SUCCESS
        )


class ClockedScheduleAdmin(beat_admin.ClockedScheduleAdmin):  # type: ignore[misc]
    """Instants at which something runs one time."""

    formfield_overrides: ClassVar[Any] = _OVERRIDES


def _details(before: PeriodicTask | None, after: PeriodicTask | None) -> dict[str, Any]:
    """What changed, for the audit record."""
    old, new = (_shown(task) if task else {} for task in (before, after))
    changed = [name for name in _AUDITED if old.get(name) != new.get(name)]
    return {
        "before": {name: old[name] for name in changed if name in old},
        "after": {name: new[name] for name in changed if name in new},
    }


def _shown(task: PeriodicTask) -> dict[str, Any]:
    values = {name: getattr(task, name) for name in _AUDITED}
    return {name: value if isinstance(value, str | bool | int | None) else str(value) for name, value in values.items()}
