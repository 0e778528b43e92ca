"""The forms of exchanges: declaring one, binding it, and asking where a message would go."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from messaging_site.console.fields import Form, ValuesField

_CODE: Final = {"class": "code", "spellcheck": "false"}
_TYPES: Final = (
    ("direct", "direct: the routing key is equal"),
    ("topic", "topic: the routing key matches a pattern of words"),
    ("fanout", "fanout: everything"),
    ("headers", "headers: the headers match"),
)


class DeclareForm(Form):
    """A new exchange."""

    name = forms.CharField(
        max_length=249,
        help_text="1 to 249 letters, digits, dots, underscores and hyphens.",
        widget=forms.TextInput(attrs=_CODE | {"autofocus": True}),
    )
    type = forms.ChoiceField(choices=_TYPES, initial="direct", help_text="Cannot be changed.")
    alternate_exchange = forms.CharField(
        max_length=249,
        required=False,
        help_text="Gets what none of the bindings lets through. Empty: that is dropped, or refused if mandatory.",
        widget=forms.TextInput(attrs=_CODE),
    )


class BindForm(Form):
    """A new binding from an exchange."""

    destination = forms.ChoiceField(label="To a", choices=(("queue", "Queue"), ("exchange", "Exchange")))
    name = forms.CharField(label="Named", max_length=249, widget=forms.TextInput(attrs=_CODE))
    routing_key = forms.CharField(max_length=255, strip=False, required=False, widget=forms.TextInput(attrs=_CODE))
    arguments = ValuesField()

    def __init__(self, exchange_type: str, data: Any = None, initial: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial=initial)
        self.fields["routing_key"].help_text = {
            "direct": "Equal to the message's.",
            "topic": "Words between dots; * is one word, # any number of them.",
            "fanout": "Not looked at.",
            "headers": "Not looked at.",
        }[exchange_type]
        if exchange_type == "headers":
            self.fields["arguments"].help_text = (
                "One a line, name: value, which the message's headers must have. x-match: any asks for one of them,"
                " all (the default) for each. 5 is a number, null only asks that the header is there."
            )
        else:
            self.fields["arguments"].help_text = "One a line, name: value. Exchanges of this type do not look at them."


class RouteForm(Form):
    """A message to find the way of; lives in the page's address."""

    routing_key = forms.CharField(
        max_length=255, strip=False, required=False, widget=forms.TextInput(attrs=_CODE | {"autofocus": True})
    )
    headers = ValuesField()
