"""The publish page: one record, its value checked by the same strict reader as REST, stored as typed."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods

from brokers import publishing, strict_json, topic_log
from brokers.errors import InvalidValue, Malformed, NotFound, OffsetOutOfRange, TooLarge
from brokers.record import JSON, RAW, NewRecord, Position
from brokers.selectors import topics as topic_reads
from brokers.selectors.topics import TopicDetail
from messaging_site.console import json_text
from messaging_site.console.fields import Form, HeadersField, InstantField
from messaging_site.console.permissions import may, requires
from messaging_site.console.topics import frame

_KINDS = (("json", "JSON"), ("text", "Text"), ("tombstone", "Tombstone (no value)"))
_COPY = re.compile(r"([0-9]{1,4}):([0-9]{1,19})", re.ASCII)
MAX_COPIED_BYTES = 256 * 1024
"""A larger value is not offered for copying into the form."""


class PublishForm(Form):
    """One record; cleans `payload` to the bytes to store, None for a tombstone."""

    key = forms.CharField(
        required=False,
        strip=False,
        max_length=8192,
        widget=forms.TextInput(attrs={"class": "code", "spellcheck": "false"}),
        help_text="Records of one key go to one partition. Empty: spread over the partitions.",
    )
    partition = forms.TypedChoiceField(required=False, coerce=int, empty_value=None)
    timestamp = InstantField(label="Time (UTC)", help_text="Empty: the time of publishing.")
    kind = forms.ChoiceField(label="Value is", choices=_KINDS, initial="json")
    payload = forms.CharField(
        label="Value",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 14, "class": "code", "spellcheck": "false"}),
    )
    headers = HeadersField(help_text="One a line, name: value.")

    def __init__(self, topic: TopicDetail, data: Any = None, initial: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial=initial)
        partition = self.fields["partition"]
        assert isinstance(partition, forms.TypedChoiceField)
        partition.choices = [("", f"Automatic ({topic.partitioner})")] + [
            (str(part.partition), str(part.partition)) for part in topic.partition_list
        ]

    def clean_payload(self) -> bytes | None:
        """The bytes to store; browsers send line ends as CR LF, which are stored as LF."""
        text = str(self.cleaned_data["payload"]).replace("\r\n", "\n")
        kind = self.cleaned_data.get("kind")
        if kind == "tombstone":
            if text.strip():
                raise forms.ValidationError("A tombstone has no value: empty this field.")
            return None
        try:
            data = text.encode()
            if kind == "json":
                strict_json.loads(data)
        except UnicodeEncodeError as error:
            raise forms.ValidationError("The value holds half of a surrogate pair.") from error
        except (Malformed, InvalidValue) as error:
            detail = error.detail.replace("the body", "the value", 1)
            raise forms.ValidationError(f"{capfirst(detail)}.") from error
        return data

    def record(self) -> NewRecord:
        """What to publish."""
        cleaned = self.cleaned_data
        return NewRecord(
            key=cleaned["key"].encode() if cleaned["key"] else None,
            value=cleaned["payload"],
            encoding=JSON if cleaned["kind"] == "json" else RAW,
            headers=cleaned["headers"],
            partition=cleaned["partition"],
            timestamp=cleaned["timestamp"],
        )

    def in_order(self) -> PublishForm:
        """The same form with its JSON laid out line by line."""
        text = json_text.formatted(str(self.data.get("payload", "")))
        self.data = {**self.data.dict(), "payload": text}  # type: ignore[attr-defined]
        return self


@require_http_methods(["GET", "HEAD", "POST"])
@requires("write", "topic")
def publish(request: HttpRequest, topic: str) -> HttpResponse:
    """The form; publishes, or with another button only checks or lays out the value."""
    detail = topic_reads.get(topic)
    form = PublishForm(detail, initial=_copied(request, topic))
    checked = False
    if request.method == "POST":
        form = PublishForm(detail, request.POST)
        action = request.POST.get("action", "publish")
        if form.is_valid():
            if action == "publish":
                position = _published(topic, form)
                if position is not None:
                    _say_where(request, position)
                    return HttpResponseRedirect(reverse("admin:topic-publish", args=[topic]))
            else:
                checked = True
                if action == "format" and form.cleaned_data["kind"] == "json":
                    form = form.in_order()
    context = frame(request, detail, "publish") | {"form": form, "checked": checked}
    return render(request, "console/topics/publish.html", context, status=422 if form.errors else 200)


def _published(topic: str, form: PublishForm) -> Position | None:
    try:
        return publishing.publish_many(topic, [form.record()])[0]
    except TooLarge as error:
        form.add_error("payload", error.detail)
    except InvalidValue as error:
        form.explain(error)
    return None


def _say_where(request: HttpRequest, position: Position) -> None:
    if position.offset is None:
        messages.success(request, f"Published to partition {position.partition}.")
        return
    messages.success(
        request,
        format_html(
            'Published to partition {}, offset <a href="{}">{}</a>.',
            position.partition,
            reverse("admin:record", args=[position.topic, position.partition, position.offset]),
            f"{position.offset:,}",
        ),
    )


def _copied(request: HttpRequest, topic: str) -> dict[str, Any]:
    """The form's beginnings from the record that the address names, if it may be seen and is text."""
    match = _COPY.fullmatch(request.GET.get("copy", ""))
    if match is None or int(match[2]) >= 2**63:
        return {}
    if not (may(request, "read", "topic", topic) and may(request, "view_payload", "topic", topic)):
        return {}
    try:
        found = topic_log.fetch(topic, int(match[1]), int(match[2]), limit=1).records
        record = found[0] if found and found[0].offset == int(match[2]) else None
        if record is None or len(record.value_bytes or b"") > MAX_COPIED_BYTES:
            return {}
        text = None if record.value_bytes is None else record.value_bytes.decode()
        return {
            "key": record.key or "",
            "kind": "tombstone" if text is None else "json" if record.encoding == JSON else "text",
            "payload": text or "",
            "headers": "\n".join(f"{name}: {value}" for name, value in record.headers.items()),
        }
    except (OffsetOutOfRange, NotFound, UnicodeDecodeError):
        return {}
