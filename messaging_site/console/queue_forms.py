"""The forms of queues and policies: what they are declared with, and where messages are moved."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from messaging_site.console.fields import Form, SpanField

_NAME: Final = "1 to 249 letters, digits, dots, underscores and hyphens."
_CODE: Final = {"class": "code", "spellcheck": "false"}
_LARGEST: Final = 2**31 - 1
_LETTERS_TO: Final = (
    ("", "Nowhere"),
    ("default", "The default exchange"),
    ("exchange", "An exchange"),
)
_OVERFLOWS: Final = (
    ("", "Give up the oldest (drop-head)"),
    ("reject-publish", "Refuse what is published (reject-publish)"),
)
_POLICY_OVERFLOWS: Final = (("", "Not set"), ("drop-head", "drop-head"), ("reject-publish", "reject-publish"))


class LimitsForm(Form):
    """What a queue may be declared with, and a policy may set for many."""

    message_ttl_ms = SpanField(
        label="Messages expire after",
        least=0,
        required=False,
        help_text="For example 30 min. Counted while a message is ready. Empty: never.",
    )
    expires_ms = SpanField(
        label="Delete the queue unused after",
        required=False,
        help_text="Without a consumer, a claim or another declaration. Empty: never.",
    )
    max_length = forms.IntegerField(
        label="Longest",
        min_value=0,
        max_value=_LARGEST,
        required=False,
        help_text="Ready messages. Empty: no limit.",
    )
    overflow = forms.ChoiceField(label="When it is full", choices=_OVERFLOWS, required=False)
    dead_letter_to = forms.ChoiceField(label="Dead letters also go to", choices=_LETTERS_TO, required=False)
    dead_letter_exchange = forms.CharField(
        label="Dead-letter exchange", max_length=249, required=False, widget=forms.TextInput(attrs=_CODE)
    )
    dead_letter_routing_key = forms.CharField(
        label="Dead-letter routing key",
        max_length=255,
        strip=False,
        required=False,
        help_text="Empty: the keys that the message had.",
        widget=forms.TextInput(attrs=_CODE),
    )
    delivery_limit = forms.IntegerField(
        min_value=-1,
        max_value=_LARGEST,
        required=False,
        help_text="Failed deliveries beyond which a message is given up. -1: no limit.",
    )

    def clean(self) -> dict[str, Any]:
        """Asks for the dead-letter exchange where one is wanted."""
        cleaned = super().clean() or {}
        goes_to = cleaned.get("dead_letter_to")
        if goes_to == "exchange" and not cleaned.get("dead_letter_exchange"):
            if "dead_letter_exchange" not in self.errors:
                self.add_error("dead_letter_exchange", "Give an exchange.")
        elif goes_to == "" and cleaned.get("dead_letter_routing_key"):
            self.add_error("dead_letter_routing_key", "A routing key needs an exchange.")
        return cleaned

    def limits(self) -> dict[str, Any]:
        """What `brokers.queues` takes, None where nothing is said."""
        cleaned = self.cleaned_data
        exchanges = {"": None, "default": "", "exchange": cleaned["dead_letter_exchange"]}
        return {
            "message_ttl_ms": cleaned["message_ttl_ms"],
            "expires_ms": cleaned["expires_ms"],
            "max_length": cleaned["max_length"],
            "overflow": cleaned["overflow"] or None,
            "dead_letter_exchange": exchanges[cleaned["dead_letter_to"]],
            "dead_letter_routing_key": cleaned["dead_letter_routing_key"] or None,
            "delivery_limit": cleaned["delivery_limit"],
        }


class DeclareForm(LimitsForm):
    """A new queue."""

    name = forms.CharField(max_length=249, help_text=_NAME, widget=forms.TextInput(attrs=_CODE | {"autofocus": True}))
    max_priority = forms.IntegerField(
        label="Highest priority",
        min_value=0,
        max_value=255,
        required=False,
        help_text="0 to 255. Empty: all messages are alike.",
    )
    single_active_consumer = forms.BooleanField(
        label="One consumer at a time",
        required=False,
        help_text="The others stand by in the order in which they came.",
    )
    dead_letters = forms.ChoiceField(
        label="Dead letters here",
        choices=(
            ("unrouted", "Of all that reach no dead-letter queue"),
            ("none", "Only of what a consumer rejects"),
        ),
        initial="unrouted",
        required=False,
    )

    def settings(self) -> dict[str, Any]:
        """What `declare_queue` takes besides the name; what was left empty is left out."""
        cleaned = self.cleaned_data
        settings = self.limits() | {"max_priority": cleaned["max_priority"]}
        given = {name: value for name, value in settings.items() if value is not None}
        if cleaned["single_active_consumer"]:
            given["single_active_consumer"] = True
        if cleaned["dead_letters"] == "none":
            given["dead_letters"] = "none"
        return given


class PolicyForm(LimitsForm):
    """A policy."""

    name = forms.CharField(max_length=249, help_text=_NAME, widget=forms.TextInput(attrs=_CODE))
    pattern = forms.CharField(
        label="Queues whose name matches",
        max_length=255,
        help_text="A regular expression, found anywhere in the name unless it begins with ^ and ends with $.",
        widget=forms.TextInput(attrs=_CODE),
    )
    priority = forms.IntegerField(
        min_value=-(2**31),
        max_value=_LARGEST,
        initial=0,
        help_text="Of several policies that match a queue, the one with the highest applies, and it alone.",
    )
    field_order = ("name", "pattern", "priority")

    def __init__(self, data: Any = None, initial: dict[str, Any] | None = None, *, is_new: bool = True) -> None:
        super().__init__(data, initial=initial)
        overflow = self.fields["overflow"]
        assert isinstance(overflow, forms.ChoiceField)
        overflow.choices = _POLICY_OVERFLOWS
        for field, text in (
            ("message_ttl_ms", "For example 30 min. Empty: not set."),
            ("expires_ms", "For example 1 day. Empty: not set."),
            ("max_length", "Ready messages. Empty: not set."),
        ):
            self.fields[field].help_text = text
        letters_to = self.fields["dead_letter_to"]
        assert isinstance(letters_to, forms.ChoiceField)
        letters_to.choices = (("", "Not set"), *_LETTERS_TO[1:])
        self.fields["delivery_limit"].help_text = "Failed deliveries. -1: no limit. Empty: not set."
        if not is_new:
            del self.fields["name"]

    def clean(self) -> dict[str, Any]:
        """A policy that sets nothing is a slip."""
        cleaned = super().clean()
        if not self.errors and not self.settings():
            self.add_error(None, "The policy sets nothing: fill in at least one of the settings.")
        return cleaned

    def settings(self) -> dict[str, Any]:
        """What `put_policy` takes besides name, pattern and priority; what is not set is left out."""
        return {name: value for name, value in self.limits().items() if value is not None}


def initial_limits(settings: Any) -> dict[str, Any]:
    """The beginnings of a `LimitsForm` from an object with the settings as attributes."""
    exchange = settings.dead_letter_exchange
    return {
        "message_ttl_ms": settings.message_ttl_ms,
        "expires_ms": settings.expires_ms,
        "max_length": settings.max_length,
        "overflow": settings.overflow or "",
        "dead_letter_to": "" if exchange is None else "exchange" if exchange else "default",
        "dead_letter_exchange": exchange or "",
        "dead_letter_routing_key": settings.dead_letter_routing_key or "",
        "delivery_limit": settings.delivery_limit,
    }


class MoveForm(Form):
    """Where messages are moved and how many; lives in the page's address."""

    target = forms.CharField(label="To queue", max_length=249, widget=forms.TextInput(attrs=_CODE))
    limit = forms.IntegerField(
        label="At most",
        min_value=1,
        max_value=2**53,
        required=False,
        help_text="Highest priority first, then the oldest. Empty: all that are ready.",
    )


class MoveReasonForm(Form):
    """Why messages are moved; the audit record keeps it."""

    reason = forms.CharField(
        max_length=500,
        help_text="Kept in the audit record.",
        widget=forms.TextInput(attrs={"spellcheck": "true"}),
        error_messages={"required": "Say why. Nothing was moved."},
    )
