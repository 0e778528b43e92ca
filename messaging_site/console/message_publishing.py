"""Publishing one message by hand, to an exchange or straight to a queue: the form, and what became of it."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods

from brokers import strict_json
from brokers.errors import BrokerError, InvalidValue, Malformed, QueueFull, TooLarge, Unroutable
from brokers.queues import message_input, sending
from brokers.queues.message import NewMessage
from brokers.queues.sending import Sent
from brokers.record import JSON, RAW
from brokers.selectors import exchanges as exchange_reads
from brokers.selectors import queues as queue_reads
from messaging_site.console import exchanges, json_text, queues
from messaging_site.console.fields import Form, SpanField, ValuesField
from messaging_site.console.permissions import requires

_KINDS: Final = (("json", "JSON"), ("text", "Text"))
_CODE: Final = {"class": "code", "spellcheck": "false"}
_PROPERTIES: Final = ("message_id", "correlation_id", "reply_to", "content_type", "type")


def _property(label: str, help_text: str = "") -> forms.CharField:
    return forms.CharField(
        label=label, max_length=255, required=False, help_text=help_text, widget=forms.TextInput(attrs=_CODE)
    )


class MessageForm(Form):
    """One message; cleans `body` to the bytes to store."""

    routing_key = forms.CharField(max_length=255, strip=False, required=False, widget=forms.TextInput(attrs=_CODE))
    priority = forms.IntegerField(min_value=0, max_value=255, required=False, help_text="Higher ones go first.")
    expiration_ms = SpanField(label="Expires after", least=0, required=False, help_text="For example 10 min.")
    delay_ms = SpanField(label="Delay", least=0, required=False, help_text="Until it is ready, for example 30 s.")
    kind = forms.ChoiceField(label="Body is", choices=_KINDS, initial="json")
    body = forms.CharField(
        required=False, strip=False, widget=forms.Textarea(attrs={"rows": 12, "class": "code", "spellcheck": "false"})
    )
    headers = ValuesField()
    message_id = _property("Message id")
    correlation_id = _property("Correlation id")
    reply_to = _property("Reply to", "A queue.")
    content_type = _property("Content type")
    type = _property("Type", "The application's name for it.")
    mandatory = forms.BooleanField(
        label="Refuse it if it reaches no queue", required=False, help_text="Else it is dropped then, as RabbitMQ does."
    )

    def __init__(self, data: Any = None, *, to_queue: bool) -> None:
        super().__init__(data)
        if to_queue:
            del self.fields["routing_key"], self.fields["mandatory"]

    def clean_body(self) -> bytes:
        """The bytes to store; browsers send line ends as CR LF, which are stored as LF."""
        text = str(self.cleaned_data["body"]).replace("\r\n", "\n")
        try:
            data = text.encode()
            if self.cleaned_data.get("kind") == "json":
                strict_json.loads(data)
        except UnicodeEncodeError as error:
            raise forms.ValidationError("The body holds half of a surrogate pair.") from error
        except (Malformed, InvalidValue) as error:
            raise forms.ValidationError(f"{capfirst(error.detail)}.") from error
        return data

    def message(self, routing_key: str | None = None) -> NewMessage:
        """What to publish; raises `InvalidValue` and `TooLarge`."""
        cleaned = self.cleaned_data
        return message_input.checked(
            NewMessage(
                body=cleaned["body"],
                encoding=JSON if cleaned["kind"] == "json" else RAW,
                routing_key=cleaned["routing_key"] if routing_key is None else routing_key,
                headers=cleaned["headers"] or None,
                priority=cleaned["priority"],
                expiration_ms=cleaned["expiration_ms"],
                delay_ms=cleaned["delay_ms"],
                **{name: cleaned[name] or None for name in _PROPERTIES},
            )
        )

    def in_order(self) -> MessageForm:
        """The same form with its JSON laid out line by line."""
        text = json_text.formatted(str(self.data.get("body", "")))
        self.data = {**self.data.dict(), "body": text}  # type: ignore[attr-defined]
        return self

    def refuse(self, error: BrokerError) -> None:
        """Shows the broker's refusal where it belongs."""
        if isinstance(error, TooLarge):
            self.add_error("body", f"{capfirst(error.detail)}.")
        elif isinstance(error, Unroutable | QueueFull):
            self.add_error(None, f"Nothing was published: {error.detail.removesuffix('; nothing was stored')}.")
        else:
            self.explain(error)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("write", "queue")
def to_queue(request: HttpRequest, queue: str) -> HttpResponse:
    """Publishes to a queue through the default exchange."""
    detail = queue_reads.get(queue)
    form, checked, sent = _handled(request, "", queue)
    if sent is not None:
        messages.success(request, f"Published as message {sent.id:,}.")
        return HttpResponseRedirect(reverse("admin:queue-publish", args=[queue]))
    context = queues.frame(request, detail, "publish") | {"form": form, "checked": checked}
    return render(request, "console/queues/publish.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("write", "exchange")
def to_exchange(request: HttpRequest, exchange: str) -> HttpResponse:
    """Publishes to an exchange."""
    detail = exchange_reads.get(exchange)
    form, checked, sent = _handled(request, exchange, None)
    if sent is not None:
        _say_where(request, exchange, form, sent)
        return HttpResponseRedirect(reverse("admin:exchange-publish", args=[exchange]))
    context = exchanges.frame(request, detail, "publish") | {"form": form, "checked": checked}
    return render(request, "console/exchanges/publish.html", context, status=422 if form.errors else 200)


def _handled(request: HttpRequest, exchange: str, queue: str | None) -> tuple[MessageForm, bool, Sent | None]:
    """The form, whether it was checked only, and what was published."""
    is_to_queue = queue is not None
    if request.method != "POST":
        return MessageForm(to_queue=is_to_queue), False, None
    form = MessageForm(request.POST, to_queue=is_to_queue)
    if not form.is_valid():
        return form, False, None
    action = request.POST.get("action", "publish")
    try:
        message = form.message(queue)
        if action == "publish":
            mandatory = bool(form.cleaned_data.get("mandatory")) or is_to_queue
            return form, False, sending.publish_messages(exchange, [message], mandatory).sent[0]
    except (InvalidValue, TooLarge, QueueFull) as error:
        form.refuse(error)
        return form, False, None
    if action == "format" and form.cleaned_data["kind"] == "json":
        form = form.in_order()
    return form, True, None


def _say_where(request: HttpRequest, exchange: str, form: MessageForm, sent: Sent) -> None:
    key = form.cleaned_data["routing_key"]
    if sent.queues:
        many = f"{sent.queues:,} queue{'' if sent.queues == 1 else 's'}"
        messages.success(request, f"Published as message {sent.id:,}: it reached {many}.")
        return
    messages.warning(
        request,
        format_html(
            'Message {} reached no queue and was dropped. <a href="{}">Why?</a>',
            f"{sent.id:,}",
            f"{reverse('admin:exchange-routes', args=[exchange])}?{urlencode({'routing_key': key})}",
        ),
    )
