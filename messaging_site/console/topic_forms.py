"""The forms for creating, changing and deleting a topic; the broker's own checks come after theirs."""

from __future__ import annotations

from typing import Any

from django import forms

from brokers.selectors.topics import TopicDetail
from brokers.settings import MAX_PARTITIONS, MAX_RECORD_BYTES, RETENTION_MS
from messaging_site.console.danger_forms import DangerForm
from messaging_site.console.fields import Form, SizeField, SpanField

_POLICIES = (
    ("delete", "Delete old records"),
    ("compact", "Compact: keep the newest of each key"),
)
_PARTITIONERS = (("crc32", "CRC-32, as librdkafka"), ("murmur2", "murmur2, as Kafka's Java client"))


class SettingsForm(Form):
    """What can be changed of a topic at any time."""

    partitions = forms.IntegerField(
        min_value=1,
        max_value=MAX_PARTITIONS,
        initial=3,
        help_text="Records of one key stay in order within a partition. More can be added later.",
    )
    retention_ms = SpanField(
        label="Keep records for",
        required=False,
        initial=RETENTION_MS,
        help_text="For example 7 days, 12 h or 90 min. Empty: for ever.",
    )
    retention_bytes = SizeField(
        label="Size limit of each partition",
        required=False,
        help_text="For example 10 GiB; the oldest records go first. Empty: no limit.",
    )
    max_record_bytes = SizeField(
        label="Largest record",
        initial=MAX_RECORD_BYTES,
        help_text="Key, value and headers together, at most 8 MiB.",
    )
    cleanup_policy = forms.ChoiceField(label="Clean-up", choices=_POLICIES, initial="delete")

    @classmethod
    def of(cls, topic: TopicDetail, data: Any = None) -> SettingsForm:
        """The form filled with a topic's present settings."""
        names = ("partitions", "retention_ms", "retention_bytes", "max_record_bytes", "cleanup_policy")
        form = cls(data, initial={name: getattr(topic, name) for name in names})
        partitions = form.fields["partitions"]
        partitions.widget.attrs["min"] = topic.partitions
        partitions.help_text = (
            f"{topic.partitions} now; can only be raised. Keys may then go to other partitions than before."
        )
        return form


class CreateForm(SettingsForm):
    """A new topic."""

    name = forms.CharField(
        max_length=249,
        help_text="1 to 249 letters, digits, dots, underscores and hyphens.",
        widget=forms.TextInput(attrs={"class": "code", "spellcheck": "false", "autofocus": True}),
    )
    partitioner = forms.ChoiceField(
        choices=_PARTITIONERS,
        initial="crc32",
        help_text="Places a record's key in a partition. Cannot be changed.",
    )
    field_order = ("name", "partitions", "retention_ms", "cleanup_policy", "partitioner")


class DeleteForm(DangerForm):
    """Asks for the topic's name, and for the password when it was given long ago."""

    def __init__(self, topic: str, user: Any, data: Any = None, *, ask_password: bool) -> None:
        super().__init__(
            *(topic, user, data), noun="topic", undone="Nothing was deleted.", ask_password=ask_password, reason=False
        )
