"""Editing a dead letter: the original beside the new contents, what differs, and a new revision when it is saved.

Revisions are never changed: saving adds one, and the ones before can no longer be replayed. Who edits an older revision
than the newest is shown both and chooses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods

from brokers import dead_letters, strict_json
from brokers.dead_letter_headers import without_deaths
from brokers.errors import BrokerError, Conflict, InvalidValue, Malformed, RevisionSuperseded, TooLarge
from brokers.record import JSON, RAW
from brokers.selectors import dead_letters as letter_reads
from brokers.selectors.dead_letters import Body, DeadLetter
from messaging_site.console import json_text, payload, text_diff
from messaging_site.console.dead_letter import frame, visible
from messaging_site.console.failure_access import Reader
from messaging_site.console.fields import Form, HeadersField, ValuesField, values_text
from messaging_site.console.letter_records import as_record
from messaging_site.console.permissions import actor, requires
from messaging_site.console.text_diff import Comparison

MAX_EDITED_BYTES = 256 * 1024
"""A larger value is not offered for editing in a form."""
_KINDS = (("json", "JSON"), ("text", "Text"))
_TOMBSTONE = ("tombstone", "Tombstone (no value)")


@dataclass(frozen=True, slots=True)
class Contents:
    """A revision's key, value and headers as text to be edited; `why_not` says why the value cannot be."""

    key: str | None
    kind: str
    value: str
    headers: str
    why_not: str = ""
    key_is_text: bool = True
    is_message: bool = False
    """Without a key, with headers of any JSON value, and never a tombstone."""

    @classmethod
    def of(cls, letter: DeadLetter, body: Body) -> Contents:
        """The text of a revision; JSON laid out line by line, each token as it was written. Without deaths."""
        if letter.source_kind != "topic":
            return cls._of_message(body)
        key = payload.key_text(as_record(letter, body))
        headers = "\n".join(f"{name}: {text}" for name, text in sorted(body.headers.items()))
        key_is_text = body.key is None or not (key or "").startswith("0x") or _decodes(body.key)
        if body.value is None:
            return cls(key, "tombstone", "", headers, "", key_is_text)
        kind, text, why_not = _editable(body.value, body.encoding)
        return cls(key, kind, text, headers, why_not, key_is_text)

    @classmethod
    def _of_message(cls, body: Body) -> Contents:
        headers = values_text(dict(sorted(without_deaths(body.headers).items())))
        kind, text, why_not = _editable(b"null", JSON) if body.value is None else _editable(body.value, body.encoding)
        return cls(None, kind, text, headers, why_not, is_message=True)


def _editable(value: bytes, encoding: int) -> tuple[str, str, str]:
    """Kind and text of a value, and why it cannot be edited; empty when it can."""
    if len(value) > MAX_EDITED_BYTES:
        return "text", "", f"values of more than {MAX_EDITED_BYTES // 1024} KiB cannot be edited here"
    if not _decodes(value):
        return "text", "", "the value is bytes that are no text"
    text = value.decode()
    return ("json", json_text.formatted(text), "") if encoding == JSON else ("text", text, "")


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class EditForm(Form):
    """New contents; `data` is the value's bytes once the form is valid."""

    revision = forms.IntegerField(widget=forms.HiddenInput, min_value=1, max_value=2**31 - 1)
    key = forms.CharField(
        required=False,
        strip=False,
        max_length=8192,
        widget=forms.TextInput(attrs={"class": "code", "spellcheck": "false"}),
        help_text="Empty: no key. The record stays in its partition whatever its key is.",
    )
    kind = forms.ChoiceField(label="Value is", choices=(*_KINDS, _TOMBSTONE))
    value = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 18, "class": "code", "spellcheck": "false"}),
    )
    headers = HeadersField(help_text="One a line, name: value.")

    def __init__(self, contents: Contents, number: int, data: Any = None) -> None:
        initial = {
            "revision": number,
            "key": contents.key or "",
            "kind": contents.kind,
            "value": contents.value,
            "headers": contents.headers,
        }
        super().__init__(data, initial=initial)
        if contents.is_message:
            self.fields["headers"] = ValuesField()
            self.fields["kind"].choices = _KINDS  # type: ignore[attr-defined]
        if contents.is_message or not contents.key_is_text:
            del self.fields["key"]
        if contents.why_not:
            del self.fields["kind"], self.fields["value"]

    def clean_value(self) -> bytes | None:
        """The bytes to store; browsers send line ends as CR LF, which are stored as LF."""
        text = str(self.cleaned_data["value"]).replace("\r\n", "\n")
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
            raise forms.ValidationError(f"{capfirst(error.detail.replace('the body', 'the value', 1))}.") from error
        return data

    def body(self, before: Body) -> Body:
        """What the edit makes of a revision."""
        cleaned = self.cleaned_data
        has_value = "value" in self.fields
        encoding = (JSON if cleaned["kind"] == "json" else RAW) if has_value else before.encoding
        key = (cleaned["key"].encode() if cleaned["key"] else None) if "key" in self.fields else before.key
        if key is None and before.key == b"":
            key = b""
        return Body(key, cleaned["value"] if has_value else before.value, encoding, cleaned["headers"])


@dataclass(frozen=True, slots=True)
class Differences:
    """What an edit changes, part by part; None where that part stays."""

    key: tuple[str | None, str | None] | None
    value: Comparison | None
    headers: Comparison | None
    is_long: bool
    """Whether the values differ and are too long to be compared."""

    @property
    def any(self) -> bool:
        """Whether anything changes."""
        return bool(self.key or self.value or self.headers or self.is_long)


def differences(letter: DeadLetter, before: Body, after: Body) -> Differences:
    """Compares two revisions as people see them: JSON laid out, headers a line each."""
    old, new = Contents.of(letter, before), Contents.of(letter, after)
    value = text_diff.compare(old.value, new.value)
    is_same = before.value == after.value and before.encoding == after.encoding
    kinds_differ = old.kind != new.kind
    headers = text_diff.compare(old.headers, new.headers)
    return Differences(
        key=(old.key, new.key) if before.key != after.key else None,
        value=value if value is not None and (value.differs or kinds_differ) else None,
        headers=headers if headers is not None and headers.differs else None,
        is_long=not is_same and (value is None or bool(old.why_not or new.why_not)),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires("replay", "group", per_item=True)
def edit(request: HttpRequest, letter: int) -> HttpResponse:
    """The form; checks, lays out or compares, or saves a new revision and goes on to the plan of its replay."""
    found = visible(request, letter)
    reader = Reader(request)
    reader.require_replay([found.consumer])
    reader.require_payload(found.consumer)
    if found.state != "open":
        messages.warning(request, f"Dead letter {letter} is {found.state}: only open ones can be edited.")
        return HttpResponseRedirect(reverse("admin:dead-letter", args=[letter]))
    contents = Contents.of(found, found.body)
    form = EditForm(contents, found.revision, request.POST if request.method == "POST" else None)
    context = frame(request, found) | {"contents": contents, "form": form, "tab": "edit", "original": contents}
    if request.method == "POST" and form.is_valid():
        after = form.body(found.body)
        changes = differences(found, found.body, after)
        context |= {"changes": changes, "checked": True}
        action = request.POST.get("action", "")
        is_stale = form.cleaned_data["revision"] != found.revision
        if is_stale and action == "save":
            return _conflict(request, found, form, context)
        if action == "save" and changes.any:
            try:
                number = _save(request, found, after)
                messages.success(request, f"Saved as revision {number}. Only this one can be replayed from now on.")
                return HttpResponseRedirect(f"{reverse('admin:replay-plan')}?ids={letter}")
            except RevisionSuperseded:
                return _conflict(request, visible(request, letter), form, context)
            except (Conflict, InvalidValue, TooLarge) as error:
                _explain(form, error)
        elif action == "save":
            form.add_error(None, "Nothing differs from the newest revision, so there is nothing to save.")
        elif action == "format" and form.cleaned_data.get("kind") == "json":
            context["form"] = _laid_out(form, contents, found)
    return render(request, "console/dead_letters/edit.html", context, status=422 if form.errors else 200)


def _save(request: HttpRequest, letter: DeadLetter, body: Body) -> int:
    return dead_letters.add_revision(
        letter.id, letter.revision, body.key, body.value, body.encoding, body.headers, "edit", actor(request)
    )


def _explain(form: EditForm, error: BrokerError) -> None:
    if isinstance(error, InvalidValue):
        form.explain(error)
    else:
        form.add_error(None, f"{capfirst(error.detail)}.")


def _laid_out(form: EditForm, contents: Contents, letter: DeadLetter) -> EditForm:
    data = {name: form.data[name] for name in form.data}
    data["value"] = json_text.formatted(str(data.get("value", "")))
    laid_out = EditForm(contents, letter.revision, data)
    laid_out.is_valid()
    return laid_out


def _conflict(request: HttpRequest, letter: DeadLetter, form: EditForm, context: dict[str, Any]) -> HttpResponse:
    """Somebody saved a revision meanwhile: theirs and yours, side by side."""
    newest = letter_reads.revisions(letter.id, 1)[0]
    theirs, yours = letter.body, form.body(letter.body)
    data = {name: form.data[name] for name in form.data}
    data["revision"] = str(letter.revision)
    context |= {
        "letter": letter,
        "newest": newest,
        "changes": differences(letter, theirs, yours),
        "parameters": [(name, data[name]) for name in ("revision", "key", "kind", "value", "headers") if name in data],
    }
    return render(request, "console/dead_letters/conflict.html", context, status=409)
