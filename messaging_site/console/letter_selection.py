"""Which dead letters a page is about: a filter in the address, or rows that were ticked, or all that the filter finds.

The list's filter form and everything that acts on its rows read the same parameters, so that a selection can be kept as
an address: `?ids=1&ids=2`, or `?all=1` with the filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import QueryDict

from brokers.errors import InvalidValue
from brokers.selectors.dead_letter_filter import Filter
from messaging_site.console.failure_words import LETTER_STATES
from messaging_site.console.fields import Form, InstantField
from messaging_site.console.formatting import moment

_STATES = [("", "Any"), *((state, word.text) for state, word in LETTER_STATES.items())]
_NAMES = ("state", "fingerprint", "source_kind", "source", "group", "since", "until", "q")
MAX_IDS = 1000
"""Rows of one selection; more are chosen by a filter."""


class FilterForm(Form):
    """The list's filter; lives in the page's address."""

    state = forms.ChoiceField(choices=_STATES, required=False)
    fingerprint = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    source_kind = forms.CharField(required=False, max_length=8, widget=forms.HiddenInput)
    source = forms.CharField(required=False, max_length=249, label="Source is")
    group = forms.CharField(required=False, max_length=249, label="Consumer group is")
    since = InstantField(label="Failed since (UTC)")
    until = InstantField(label="and before (UTC)")
    q = forms.CharField(
        required=False,
        max_length=200,
        label="Key, message id or error contains",
        widget=forms.TextInput(attrs={"type": "search", "data-filter": "", "spellcheck": "false"}),
    )

    def __init__(self, data: QueryDict) -> None:
        super().__init__({name: data.get(name, "") for name in _NAMES})

    def filter(self) -> Filter:
        """The filter, of a valid form; raises `InvalidValue` for what no dead letter can have."""
        cleaned: dict[str, Any] = self.cleaned_data
        texts = {name: cleaned[name] or None for name in _NAMES if name not in ("since", "until")}
        since, until = (None if cleaned[name] is None else moment(cleaned[name]) for name in ("since", "until"))
        return Filter(**texts, since=since, until=until)

    def address(self) -> list[tuple[str, str]]:
        """The parameters that say something, for an address or hidden fields."""
        return [(name, str(self.data[name])) for name in _NAMES if self.data[name]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Dead letters that something shall be done with."""

    filter: Filter
    parameters: tuple[tuple[str, str], ...]
    """What leads back to it in an address."""

    @property
    def query(self) -> str:
        """The parameters as part of an address."""
        return urlencode(self.parameters)

    @property
    def ids(self) -> tuple[int, ...] | None:
        """The rows that were ticked; None when a filter selects."""
        return self.filter.ids

    @classmethod
    def of(cls, data: QueryDict) -> Selection | None:
        """The selection of an address or a form; None when nothing was selected. Raises `InvalidValue`."""
        if data.get("all"):
            form = FilterForm(data)
            if not form.is_valid():
                raise InvalidValue("the filter of this selection is not valid")
            return cls(form.filter(), (("all", "1"), *form.address()))
        texts = [text for part in data.getlist("ids") for text in part.split(",") if text]
        if not texts:
            return None
        if len(texts) > MAX_IDS or not all(text.isascii() and text.isdigit() and len(text) < 19 for text in texts):
            raise InvalidValue(f"a selection names up to {MAX_IDS} dead letters by their numbers")
        ids = tuple(dict.fromkeys(int(text) for text in texts))
        return cls(Filter(ids=ids), (("ids", ",".join(map(str, ids))),))
