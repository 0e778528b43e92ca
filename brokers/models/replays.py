"""The tables of replays: durable jobs that give dead letters back, and the outcome of each item.

Counters of a replay are kept as those of a failure group are: triggers add rows to `brokers_replay_change`.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

STATES = ("planned", "waiting", "canary", "running", "paused", "stopped", "completed", "cancelled")
OUTCOMES = ("waiting", "succeeded", "failed_again", "skipped")


class Replay(models.Model):
    """One replay. Its selection is frozen in its items when it is made."""

    state = models.CharField(max_length=10)
    selection = models.JSONField()
    consumers = models.JSONField(default=list)
    """Whose dead letters these are: `[{"source_kind", "source", "group"}]`; decides who may see the replay."""
    target = models.JSONField(null=True)
    """Null: back to the consumer that failed."""
    edit = models.JSONField(null=True)
    """`{"merge_patch": ...}`; an edit of one letter is a revision already and stands here for the record."""
    rate_per_second = models.FloatField(null=True)
    canary = models.JSONField(null=True)
    stop_when_failed_again = models.FloatField(null=True)
    reason = models.TextField(default="", db_default="")
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())
    starts_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True)
    """When a plan that nobody applies is forgotten."""
    resumes_as = models.CharField(max_length=10, null=True)
    """The state that a paused one goes back to."""
    finished_at = models.DateTimeField(null=True)
    """When nothing was left to send: a cancelled or stopped one has it once its unsent items are marked as skipped."""
    changed_at = models.DateTimeField(db_default=Now())
    stop_cause = models.TextField(default="", db_default="")
    total = models.BigIntegerField(default=0, db_default=0)
    """Items to be replayed, as planned."""
    skips = models.JSONField(default=dict)
    """Why items were skipped at the plan: reason to count."""
    next_position = models.BigIntegerField(default=0, db_default=0)
    """Items before it have been sent or skipped."""
    budget_at = models.DateTimeField(null=True)
    """When the rate's budget was last spent."""
    sent = models.BigIntegerField(default=0, db_default=0)
    succeeded = models.BigIntegerField(default=0, db_default=0)
    failed_again = models.BigIntegerField(default=0, db_default=0)
    skipped = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "brokers_replay"
        constraints = [
            models.CheckConstraint(name="brokers_replay_state_known", condition=models.Q(state__in=STATES)),
        ]
        indexes = [
            models.Index(fields=["id"], condition=models.Q(finished_at__isnull=True), name="brokers_replay_live"),
        ]

    def __str__(self) -> str:
        return f"replay {self.pk}, {self.state}"


class ReplayItem(models.Model):
    """One dead letter in one replay."""

    replay = models.ForeignKey(Replay, on_delete=models.CASCADE, db_index=False, related_name="items")
    position = models.BigIntegerField()
    dead_letter_id = models.BigIntegerField()
    revision = models.IntegerField()
    """The dead letter's at the plan."""
    outcome = models.CharField(max_length=12, default="waiting", db_default="waiting")
    why = models.CharField(max_length=40, default="", db_default="")
    """Why it was skipped, or `same`/`new`: whether it failed again as before."""
    sent_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "brokers_replay_item"
        constraints = [
            models.CheckConstraint(name="brokers_replay_item_outcome_known", condition=models.Q(outcome__in=OUTCOMES)),
            models.UniqueConstraint(fields=["dead_letter_id", "replay"], name="brokers_replay_item_once"),
            models.UniqueConstraint(fields=["replay", "position"], name="brokers_replay_item_position"),
        ]
        indexes = [
            models.Index(fields=["replay", "outcome", "position"], name="brokers_replay_item_outcome"),
            models.Index(
                fields=["replay", "finished_at"],
                condition=models.Q(outcome__in=["succeeded", "failed_again"]),
                name="brokers_replay_item_finished",
            ),
        ]

    def __str__(self) -> str:
        return f"item {self.position} of replay {self.replay_id}: {self.outcome}"


class ReplayChange(models.Model):
    """What one statement changed of one replay's counters; folded within seconds."""

    replay_id = models.BigIntegerField()
    sent = models.IntegerField()
    succeeded = models.IntegerField()
    failed_again = models.IntegerField()
    skipped = models.IntegerField()

    class Meta:
        db_table = "brokers_replay_change"
        indexes = [models.Index(fields=["replay_id"], name="brokers_replay_change_replay")]

    def __str__(self) -> str:
        return f"replay {self.replay_id}: {self.sent:+} sent"
