"""Scheduled tasks and their runs, and background work: one row each, which is the truth; Celery only carries ids."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class ScheduledTask(models.Model):
    """A task with a schedule: declared in code, or an operator's periodic task that is mirrored here."""

    name = models.CharField(max_length=200, unique=True)
    source = models.CharField(max_length=8)
    """`code` or `operator`."""
    periodic_task_id = models.IntegerField(null=True)
    """Row of django-celery-beat that it mirrors."""
    kind = models.CharField(max_length=12)
    """`fixed_rate`, `fixed_delay`, `cron`, `once`, `crontab` or `solar`."""
    spec = models.JSONField()
    """The schedule, as `triggers` writes it."""
    options = models.JSONField(default=dict)
    """Lock, timeout and so on, for people: what counts is the declaration in the worker's code."""
    overlap = models.CharField(max_length=5)
    """`skip`, `queue` or `allow`."""
    misfire = models.CharField(max_length=8)
    """`run_once` or `skip`."""
    is_declared = models.BooleanField(default=True)
    """Whether the code of the last start still has it."""
    paused = models.BooleanField(default=False)
    note = models.CharField(max_length=500, default="")
    """Why it is paused, in the operator's words."""
    next_due = models.DateTimeField(null=True)
    """None: not due by time now, as while a fixed delay waits for the end of a run."""
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [
            models.Index(fields=["next_due"], name="scheduled_task_due", condition=Q(paused=False, is_declared=True))
        ]


class Run(models.Model):
    """One execution: of a scheduled task at a due time, or of a background function that was called."""

    task = models.ForeignKey(ScheduledTask, models.CASCADE, null=True, db_index=False)
    due_at = models.DateTimeField()
    trigger = models.CharField(max_length=10)
    """`schedule`, `operator`, `call` or `replay`."""
    function = models.CharField(max_length=200)
    """Dotted name: the task's, or that of the background function."""
    arguments = models.JSONField(null=True)
    """Of a background function: `[args, kwargs]`."""
    state = models.CharField(max_length=9)
    """`ready`, `running`, `succeeded`, `failed`, `timed_out`, `skipped`, `lost`, `dead`."""
    is_exclusive = models.BooleanField(default=False)
    """Whether no other run of its task may be running beside it."""
    fired_by = models.CharField(max_length=255, default="")
    rung_at = models.DateTimeField(null=True)
    """When a worker was last told of it."""
    next_at = models.DateTimeField(db_default=Now())
    """When it may be tried (again)."""
    attempts = models.IntegerField(default=0)
    losses = models.IntegerField(default=0)
    """Attempts whose worker was killed."""
    token = models.UUIDField(null=True)
    """Of the attempt under way: whoever lost it cannot end the run."""
    lease_until = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    process = models.CharField(max_length=255, default="")
    """Host and process id of the worker of the last attempt."""
    result = models.JSONField(null=True)
    error = models.TextField(default="")
    """The last attempt's, with its stack trace; or why it was skipped."""
    called_by = models.CharField(max_length=200, default="")
    """Who has called the background function, or asked for the run."""
    began_at = models.DateTimeField(null=True)
    """When the last attempt began."""
    failures = models.IntegerField(db_default=0)
    """Attempts of a background function that raised something."""
    same_failures = models.IntegerField(db_default=0)
    """Of these the last ones that raised `exception_class`."""
    exception_class = models.CharField(max_length=300, db_default="")
    dead_letter_id = models.BigIntegerField(null=True)
    """What it became when it was given up; or what a replay has made it of."""
    replay_item_id = models.BigIntegerField(null=True)
    revision = models.IntegerField(null=True)
    """Of the dead letter."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "due_at"], name="run_once_per_due_time"),
            models.UniqueConstraint(
                fields=["task"], name="run_one_at_a_time", condition=Q(state="running", is_exclusive=True)
            ),
        ]
        indexes = [
            models.Index(fields=["task", "id"], name="run_open", condition=Q(state__in=["ready", "running"])),
            models.Index(fields=["rung_at", "next_at"], name="run_ready", condition=Q(state="ready")),
            models.Index(fields=["lease_until"], name="run_running", condition=Q(state="running")),
            models.Index(fields=["task", "-id"], name="run_history"),
            models.Index(fields=["ended_at"], name="run_ended", condition=Q(ended_at__isnull=False)),
            models.Index(fields=["function", "-id"], name="run_background", condition=Q(task__isnull=True)),
            models.Index(fields=["-id"], name="run_calls", condition=Q(task__isnull=True)),
            models.Index(fields=["-id"], name="run_dead", condition=Q(task__isnull=True, state="dead")),
        ]


class RunAttempt(models.Model):
    """One attempt at a background function that failed, for as long as its run is not given up."""

    pk = models.CompositePrimaryKey("run_id", "number")
    run_id = models.BigIntegerField()
    number = models.IntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    """None when its worker was lost in it."""
    error = models.TextField(default="")
    exception_class = models.CharField(max_length=300, default="")
    stacktrace = models.TextField(default="")
    frames = models.JSONField(default=list)
    """As those of a dead letter's attempts."""
    delay_ms = models.BigIntegerField(null=True)
    """The back-off after it."""
    worker = models.CharField(max_length=255, default="")
