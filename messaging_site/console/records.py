"""The records of a topic: pages of them by offset or time, one of them with its payload, and its download.

Keys and headers need `read` on the topic, payloads `view_payload` as well; without it their place says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from brokers import topic_log
from brokers.errors import NotFound, OffsetOutOfRange
from brokers.record import Record
from brokers.selectors import topics as topic_reads
from brokers.selectors.topics import PartitionSummary, TopicDetail
from messaging_site.console import payload, record_pages
from messaging_site.console.fields import Form, InstantField
from messaging_site.console.permissions import may, requires
from messaging_site.console.topics import frame

ALL = "all"
_MAX_MERGED = 64
"""Topics with more partitions show one partition at a time."""
_OPEN = re.compile(r"([0-9]{1,4}):([0-9]{1,19})", re.ASCII)
_STARTS = (
    ("latest", "Newest first"),
    ("earliest", "Oldest first"),
    ("offset", "From offset"),
    ("time", "From time (UTC)"),
)


class RangeForm(Form):
    """Where to start and in which partition; lives in the page's address."""

    start = forms.ChoiceField(label="Show", choices=_STARTS, initial="latest")
    partition = forms.ChoiceField(initial=ALL)
    offset = forms.IntegerField(min_value=0, max_value=2**63 - 1, required=False)
    time = InstantField(label="Time (UTC)")

    def __init__(self, topic: TopicDetail, data: Any) -> None:
        numbers = [(str(part.partition), str(part.partition)) for part in topic.partition_list]
        everything = [(ALL, "All")] if len(numbers) <= _MAX_MERGED else []
        choices = everything + numbers
        chosen = {
            "start": data.get("start") or "latest",
            "partition": data.get("partition") or choices[0][0],
            "offset": data.get("offset"),
            "time": data.get("time"),
        }
        super().__init__(chosen)
        partition = self.fields["partition"]
        assert isinstance(partition, forms.ChoiceField)
        partition.choices = choices

    def clean(self) -> dict[str, Any]:
        """Asks for the offset or the time where they are needed."""
        cleaned = super().clean() or {}
        start = cleaned.get("start")
        if start == "offset" and cleaned.get("offset") is None and "offset" not in self.errors:
            self.add_error("offset", "Give an offset.")
        if start == "time" and cleaned.get("time") is None and "time" not in self.errors:
            self.add_error("time", "Give a date and time.")
        return cleaned


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    record: Record
    key: str | None
    preview: str | None
    size: int
    url: str
    is_open: bool


@require_safe
@requires("read", "topic")
def listing(request: HttpRequest, topic: str) -> HttpResponse:
    """A page of records, with one of them open beside it when the address says so."""
    summary = topic_reads.get(topic)
    form = RangeForm(summary, request.GET)
    page = _page(summary, form, request.GET.get("at", "")) if form.is_valid() else record_pages.Page([], None)
    opened = _opened(request, topic)
    place = _address(form)
    here = place | ({"at": request.GET["at"]} if request.GET.get("at") else {})
    context = frame(request, summary, "records") | {
        "form": form,
        "rows": [_row(record, here, opened) for record in page.records],
        "older_first": form.cleaned_data.get("start") != "latest" if form.is_valid() else False,
        "is_later_page": bool(request.GET.get("at")),
        "is_live": _is_newest(form) and opened is None and not request.GET.get("at"),
        "first_url": f"?{urlencode(place)}",
        "next_url": f"?{urlencode(place | {'at': page.cursor})}" if page.cursor else None,
        "close_url": f"?{urlencode(here)}",
        "opened": opened,
        "may_see_payload": may(request, "view_payload", "topic", topic),
        "ends": _ends(summary),
        "expired": any(part.latest_offset for part in summary.partition_list),
    }
    if opened is not None:
        context |= _record_context(request, opened, f"?{urlencode(here | {'open': _name(opened)})}&")
    return render(request, "console/topics/records.html", context, status=422 if form.errors else 200)


def _is_newest(form: RangeForm) -> bool:
    """Whether what is published next belongs on the page."""
    return form.is_valid() and form.cleaned_data.get("start") == "latest"


@require_safe
@requires("read", "topic")
def detail(request: HttpRequest, topic: str, partition: int, offset: int) -> HttpResponse:
    """One record on a page of its own."""
    summary = topic_reads.get(topic)
    record = _find(topic, partition, offset)
    context = frame(request, summary, "records") | _record_context(request, record, "?")
    context["crumbs"] = [
        ("Topics", reverse("admin:topics")),
        (topic, reverse("admin:topic", args=[topic])),
        (f"{partition} @ {offset:,}", None),
    ]
    return render(request, "console/topics/record.html", context)


@require_safe
@requires("view_payload", "topic")
def download(request: HttpRequest, topic: str, partition: int, offset: int) -> HttpResponse:
    """The value's bytes as a file that no browser opens by itself."""
    record = _find(topic, partition, offset)
    response = HttpResponse(record.value_bytes or b"", content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{topic}-{partition}-{offset}.bin"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _page(topic: TopicDetail, form: RangeForm, cursor: str) -> record_pages.Page:
    partition = form.cleaned_data["partition"]
    parts = [part for part in topic.partition_list if partition in (ALL, str(part.partition))]
    at = record_pages.read_cursor(cursor)
    if form.cleaned_data["start"] == "latest":
        return record_pages.newest_first(topic.name, parts, at or {})
    return record_pages.oldest_first(topic.name, parts, _beginning(topic, form, parts) if at is None else at)


def _beginning(topic: TopicDetail, form: RangeForm, parts: list[PartitionSummary]) -> dict[int, int]:
    start = form.cleaned_data["start"]
    if start == "offset":
        return {part.partition: form.cleaned_data["offset"] for part in parts}
    if start == "time":
        instant = form.cleaned_data["time"]
        return {part.partition: topic_log.offset_for_timestamp(topic.name, part.partition, instant) for part in parts}
    return {}


def _address(form: RangeForm) -> dict[str, str]:
    """The form's choices for an address, without those that say nothing."""
    data = {name: str(value) for name, value in form.data.items() if value}
    for name, start in (("offset", "offset"), ("time", "time")):
        if data.get("start") != start:
            data.pop(name, None)
    return data


def _row(record: Record, here: dict[str, str], opened: Record | None) -> Row:
    is_open = opened is not None and (opened.partition, opened.offset) == (record.partition, record.offset)
    return Row(
        record,
        payload.key_text(record),
        payload.preview(record),
        len(record.value_bytes or b""),
        f"?{urlencode(here | {'open': _name(record)})}",
        is_open,
    )


def _name(record: Record) -> str:
    return f"{record.partition}:{record.offset}"


def _opened(request: HttpRequest, topic: str) -> Record | None:
    match = _OPEN.fullmatch(request.GET.get("open", ""))
    if match is None or int(match[2]) >= 2**63:
        return None
    try:
        return _find(topic, int(match[1]), int(match[2]))
    except NotFound:
        return None


def _find(topic: str, partition: int, offset: int) -> Record:
    """Raises NotFound, which says why: not written yet, expired or compacted away."""
    try:
        fetched = topic_log.fetch(topic, partition, offset, limit=1)
    except OffsetOutOfRange as error:
        raise NotFound(error.detail) from error
    if fetched.records and fetched.records[0].offset == offset:
        return fetched.records[0]
    if offset >= fetched.latest_offset:
        raise NotFound(f"no record has offset {offset} yet: the next one gets {fetched.latest_offset}")
    raise NotFound(f"the record at offset {offset} was replaced by a newer one of its key and compacted away")


def _record_context(request: HttpRequest, record: Record, view_base: str) -> dict[str, Any]:
    may_see = may(request, "view_payload", "topic", record.topic)
    shown = payload.payload(record, request.GET.get("view")) if may_see else None
    views = [(view, f"{view_base}view={view}") for view in shown.views] if shown is not None else []
    return {
        "record": record,
        "record_key": payload.key_text(record),
        "key_is_binary": record.key_bytes is not None and not _is_text(record.key_bytes),
        "headers": sorted(record.headers.items()),
        "payload": shown,
        "views": views,
        "may_see_payload": may_see,
        "lacks_payload": "" if may_see else f"view_payload on topic {record.topic}",
        "value_url": reverse("admin:record-value", args=[record.topic, record.partition, record.offset]),
    }


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ends(topic: TopicDetail) -> str:
    held = [part for part in topic.partition_list if part.records]
    if not held:
        return ""
    return ", ".join(
        f"partition {part.partition} holds {part.earliest_offset:,} to {part.latest_offset - 1:,}" for part in held[:6]
    )
