"""Form fields that speak the console's language: spans ("7 days"), sizes ("64 MiB"), headers, typed values, instants.

Each field's cleaned value is what the broker takes: milliseconds, bytes, a dict, a dict, milliseconds. `explain` puts
the broker's own refusals on the fields that caused them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils.text import capfirst

from brokers import strict_json
from brokers.errors import BrokerError, InvalidValue, Malformed, shown

_SPANS: Final = {"week": 604_800_000, "day": 86_400_000, "h": 3_600_000, "min": 60_000, "s": 1000, "ms": 1}
_SPAN_WORDS: Final = {
    **dict.fromkeys(("w", "week", "weeks"), "week"),
    **dict.fromkeys(("d", "day", "days"), "day"),
    **dict.fromkeys(("h", "hour", "hours"), "h"),
    **dict.fromkeys(("m", "min", "minute", "minutes"), "min"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    "ms": "ms",
}
_SIZES: Final = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1}
_SIZE_WORDS: Final = {unit.lower(): factor for unit, factor in _SIZES.items()} | {"": 1, "bytes": 1}
_LARGEST: Final = 2**63 - 1
_TEXT: Final = forms.TextInput


def span_text(milliseconds: int) -> str:
    """The span as a person would type it, exactly: 7 days, 90 min, 1500 ms."""
    for unit in ("day", "h", "min", "s") if milliseconds else ():
        if milliseconds % _SPANS[unit] == 0:
            amount = milliseconds // _SPANS[unit]
            return f"{amount} {unit}{'s' if unit == 'day' and amount != 1 else ''}"
    return f"{milliseconds} ms"


def size_text(size: int) -> str:
    """The size as a person would type it, exactly: 64 MiB, 1000 B."""
    unit = next(unit for unit, factor in _SIZES.items() if size % factor == 0)
    return f"{size // _SIZES[unit]} {unit}"


class SpanField(forms.CharField):
    """A span of time; cleans to milliseconds, at least `least` of them, or None when left empty."""

    def __init__(self, *, least: int = 1, **options: Any) -> None:
        super().__init__(max_length=60, **options)
        self._least = least

    def prepare_value(self, value: Any) -> Any:
        """Milliseconds as text."""
        return span_text(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        """Raises ValidationError for what is no span."""
        text = super().clean(value)
        if not text:
            return None
        parts = re.findall(r"([0-9]{1,19})\s*([a-z]+)\s*", text.lower())
        if "".join(f"{amount}{unit}" for amount, unit in parts) != re.sub(r"\s", "", text.lower()):
            raise ValidationError("Give a number and a unit, for example 7 days, 12 h or 90 min.")
        if any(unit not in _SPAN_WORDS for _, unit in parts):
            raise ValidationError("Units are days, h, min, s and ms.")
        total = sum(int(amount) * _SPANS[_SPAN_WORDS[unit]] for amount, unit in parts)
        if not self._least <= total <= _LARGEST:
            raise ValidationError("The span is zero or too long." if self._least else "The span is too long.")
        return total


class SizeField(forms.CharField):
    """A number of bytes; cleans to an int, or None when left empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=40, **options)

    def prepare_value(self, value: Any) -> Any:
        """Bytes as text."""
        return size_text(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        """Raises ValidationError for what is no size."""
        text = super().clean(value)
        if not text:
            return None
        match = re.fullmatch(r"([0-9][0-9,]{0,24})\s*([a-z]*)", text.lower(), re.ASCII)
        if match is None or match[2] not in _SIZE_WORDS:
            raise ValidationError("Give a number and a unit, for example 64 MiB, 512 KiB or 1000 B.")
        total = int(match[1].replace(",", "")) * _SIZE_WORDS[match[2]]
        if not 1 <= total <= _LARGEST:
            raise ValidationError("The size is zero or too large.")
        return total


class HeadersField(forms.CharField):
    """Record headers, one `name: value` a line; cleans to a dict."""

    def __init__(self, **options: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "class": "code", "spellcheck": "false"})
        super().__init__(required=False, widget=widget, **options)

    def clean(self, value: Any) -> Any:
        """Raises ValidationError naming the line at fault."""
        headers: dict[str, str] = {}
        for at, line in enumerate((super().clean(value) or "").splitlines(), 1):
            name, colon, text = line.partition(":")
            name = name.strip()
            if not line.strip():
                continue
            if not colon or not name:
                raise ValidationError(f"Line {at} is not of the form name: value.")
            if name in headers:
                raise ValidationError(f"Line {at} gives {shown(name)} a second time.")
            headers[name] = text.strip()
        return headers


class ValuesField(forms.CharField):
    """Names with values of any JSON type, one `name: value` a line; cleans to a dict.

    What reads as JSON is that: `5` a number, `true` a boolean, `"5"` a text. Anything else is text as it stands.
    """

    def __init__(self, **options: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 3, "class": "code", "spellcheck": "false"})
        options.setdefault("help_text", 'One a line, name: value. 5 is a number, true a boolean, "5" a text.')
        super().__init__(required=False, widget=widget, **options)

    def prepare_value(self, value: Any) -> Any:
        """A dict as its lines."""
        return values_text(value) if isinstance(value, Mapping) else value

    def clean(self, value: Any) -> Any:
        """Raises ValidationError naming the line at fault."""
        values: dict[str, Any] = {}
        for at, line in enumerate((super().clean(value) or "").splitlines(), 1):
            name, colon, text = line.partition(":")
            name = name.strip()
            if not line.strip():
                continue
            if not colon or not name:
                raise ValidationError(f"Line {at} is not of the form name: value.")
            if name in values:
                raise ValidationError(f"Line {at} gives {shown(name)} a second time.")
            values[name] = _typed(text.strip(), at)
        return values


def values_text(values: Mapping[str, Any]) -> str:
    """The values as a person would type them into a `ValuesField`, one a line."""
    return "\n".join(f"{name}: {_as_typed(value)}" for name, value in values.items())


def _as_typed(value: Any) -> str:
    if isinstance(value, str) and value == value.strip() and "\0" not in value and _is_line(value):
        try:
            if _typed(value, 0) == value:
                return value
        except ValidationError:
            pass
    text = json.dumps(value, ensure_ascii=False)
    return text if _is_line(text) else json.dumps(value)


def _is_line(text: str) -> bool:
    return text.splitlines() in ([], [text])


def _typed(text: str, at: int) -> Any:
    try:
        return strict_json.loads(text.encode())
    except UnicodeEncodeError as error:
        raise ValidationError(f"Line {at} holds half of a surrogate pair.") from error
    except (Malformed, InvalidValue) as error:
        if text.startswith(('"', "[", "{")):
            raise ValidationError(f"Line {at}: {error.detail.replace('the body', 'the value', 1)}.") from error
        return text


class InstantField(forms.CharField):
    """An instant in UTC; cleans to Unix milliseconds, or None when left empty."""

    def __init__(self, **options: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "any"})
        super().__init__(required=False, max_length=40, widget=widget, **options)

    def clean(self, value: Any) -> Any:
        """Raises ValidationError for what is no date and time."""
        text = super().clean(value)
        if not text:
            return None
        try:
            instant = datetime.fromisoformat(text)
            if instant.tzinfo is None:
                instant = instant.replace(tzinfo=UTC)
            milliseconds = round(instant.timestamp() * 1000)
        except (ValueError, OverflowError) as error:
            raise ValidationError("Give a date and time, for example 2026-01-31T14:00.") from error
        if milliseconds < 0:
            raise ValidationError("Give a time after 1970.")
        return milliseconds


class Form(forms.Form):
    """A form whose widgets carry what the console's templates need."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs.setdefault("autocomplete", "off")

    def explain(self, error: BrokerError, otherwise: str | None = None) -> None:
        """Shows the broker's refusal at the fields that its pointers name, else at `otherwise` or above the form."""
        for pointer, detail in error.errors or [("", error.detail)]:
            name = next((part for part in reversed(pointer.split("/")) if part in self.fields), otherwise)
            self.add_error(name, f"{capfirst(detail)}.")
