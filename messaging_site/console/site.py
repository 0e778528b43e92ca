"""The admin site at /admin/: its routes, its login and, as its index, the Overview.

Every route of ours is wrapped in `admin_view` (signed-in staff, CSRF, no caching) here and declares its
operation by `permissions.requires` at the view.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, path, register_converter
from django.urls.converters import StringConverter

from messaging_site.console import (
    alerts,
    connections,
    dead_letter,
    dead_letter_edit,
    dead_letter_list,
    exchanges,
    executors,
    failure_groups,
    group_resets,
    groups,
    letter_changes,
    locks,
    message_publishing,
    overview,
    policies,
    preferences,
    publishing,
    queue_changes,
    queue_messages,
    queue_retries,
    queues,
    records,
    replay_plans,
    replays,
    route_tester,
    signing_in,
    tasks,
    topics,
)

AnyView = TypeVar("AnyView", bound=Callable[..., HttpResponseBase])


class TopicName(StringConverter):
    """A topic's name in a URL; other text is no such page."""

    regex = r"[A-Za-z0-9._-]{1,249}"


class GroupName(TopicName):
    """A consumer group's name in a URL."""


class ExchangeName(TopicName):
    """An exchange's name in a URL."""


class QueueName(TopicName):
    """A queue's name in a URL."""


class PolicyName(TopicName):
    """A queue policy's name in a URL."""


class ScheduleName(StringConverter):
    """A scheduled task's name in a URL: any text, where `~2F` stands for a slash, and `~` begins such a code."""

    regex = r"[^/\0]{1,800}"
    _CODED = re.compile("[/~]|^[.]{1,2}$")
    _CODE = re.compile("~([0-9A-F]{2})")

    def to_python(self, value: str) -> str:
        return self._CODE.sub(lambda match: chr(int(match[1], 16)), value)

    def to_url(self, value: str) -> str:
        return self._CODED.sub(lambda match: "".join(f"~{ord(each):02X}" for each in match[0]), value)


class ConnectionId(StringConverter):
    """The id of a live connection in a URL."""

    regex = r"[0-9a-f]{32}"


class TokenId(StringConverter):
    """The id of an API token in a URL."""

    regex = r"[A-Za-z0-9._-]{1,64}"


class Decimal(StringConverter):
    """A partition or an offset: digits only, at most 19 of them."""

    regex = r"0|[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:  # type: ignore[override]
        """The number; ValueError (no such page) beyond 64 bits."""
        number = int(value)
        if number >= 2**63:
            raise ValueError(value)
        return number


class Direction(StringConverter):
    """Towards older or newer dead letters."""

    regex = r"older|newer"


register_converter(TopicName, "topic")
register_converter(GroupName, "group")
register_converter(ExchangeName, "exchange")
register_converter(QueueName, "queue")
register_converter(PolicyName, "policy")
register_converter(ScheduleName, "schedule")
register_converter(ConnectionId, "connection")
register_converter(TokenId, "token")
register_converter(Decimal, "decimal")
register_converter(Direction, "direction")


class ConsoleSite(AdminSite):
    """Django's admin site with the operator's screens in front."""

    site_header = "Waystation"
    site_title = "Waystation"
    index_title = "Overview"
    site_url = None
    enable_nav_sidebar = False
    login_form = signing_in.LoginForm
    login_template = "console/login.html"
    logout_template = "console/logged_out.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # type: ignore[override]
        """The Overview."""
        return overview.overview(request)

    def admin_view(self, view: AnyView, cacheable: bool = False) -> AnyView:
        """As Django's, and no page is ever kept by a cache."""
        return super().admin_view(view)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Django's login; notes when the password was given."""
        response = super().login(request, extra_context)
        if request.method == "POST" and response.status_code == 302 and request.user.is_authenticated:
            signing_in.remember_password_given(request)
        return response

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """Our routes first, then Django's."""

        def route(pattern: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(pattern, self.admin_view(view), name=name)

        ours: list[URLResolver | URLPattern] = [
            route("preferences/", preferences.choose, "preferences"),
            route("topics/", topics.listing, "topics"),
            route("new-topic/", topics.create, "topic-create"),
            route("topics/<topic:topic>/", records.listing, "topic"),
            route("topics/<topic:topic>/records/<decimal:partition>/<decimal:offset>/", records.detail, "record"),
            route(
                "topics/<topic:topic>/records/<decimal:partition>/<decimal:offset>/value",
                records.download,
                "record-value",
            ),
            route("topics/<topic:topic>/partitions/", topics.partitions, "topic-partitions"),
            route("topics/<topic:topic>/settings/", topics.settings, "topic-settings"),
            route("topics/<topic:topic>/delete/", topics.delete, "topic-delete"),
            route("topics/<topic:topic>/publish/", publishing.publish, "topic-publish"),
            route("topics/<topic:topic>/groups/", groups.of_topic, "topic-groups"),
            route("groups/", groups.listing, "groups"),
            route("groups/<group:group>/", groups.detail, "group"),
            route("groups/<group:group>/pause/", groups.pause, "group-pause"),
            route("groups/<group:group>/resume/", groups.resume, "group-resume"),
            route("groups/<group:group>/reset/", group_resets.reset, "group-reset"),
            route("groups/<group:group>/reset/undo/", group_resets.undo, "group-reset-undo"),
            route("exchanges/", exchanges.listing, "exchanges"),
            route("new-exchange/", exchanges.create, "exchange-create"),
            route("exchanges/<exchange:exchange>/", exchanges.detail, "exchange"),
            route("exchanges/<exchange:exchange>/unbind/", exchanges.unbind, "exchange-unbind"),
            route("exchanges/<exchange:exchange>/routes/", route_tester.routes, "exchange-routes"),
            route("exchanges/<exchange:exchange>/publish/", message_publishing.to_exchange, "exchange-publish"),
            route("exchanges/<exchange:exchange>/delete/", exchanges.delete, "exchange-delete"),
            route("queues/", queues.listing, "queues"),
            route("new-queue/", queues.create, "queue-create"),
            route("queues/<queue:queue>/", queue_messages.listing, "queue"),
            route("queues/<queue:queue>/messages/<decimal:message>/", queue_messages.detail, "message"),
            route("queues/<queue:queue>/messages/<decimal:message>/body", queue_messages.download, "message-body"),
            route("queues/<queue:queue>/unacknowledged/", queue_messages.unacknowledged, "queue-unacknowledged"),
            route("queues/<queue:queue>/release/", queue_messages.release, "queue-release"),
            route("queues/<queue:queue>/consumers/", queues.consumers, "queue-consumers"),
            route("queues/<queue:queue>/bindings/", queues.bindings, "queue-bindings"),
            route("queues/<queue:queue>/policy/", queue_retries.policy, "queue-policy"),
            route("queues/<queue:queue>/settings/", queues.settings, "queue-settings"),
            route("queues/<queue:queue>/publish/", message_publishing.to_queue, "queue-publish"),
            route("queues/<queue:queue>/pause/", queues.pause, "queue-pause"),
            route("queues/<queue:queue>/resume/", queues.resume, "queue-resume"),
            route("queues/<queue:queue>/move/", queue_changes.move, "queue-move"),
            route("queues/<queue:queue>/purge/", queue_changes.purge, "queue-purge"),
            route("queues/<queue:queue>/delete/", queue_changes.delete, "queue-delete"),
            route("policies/", policies.listing, "policies"),
            route("new-policy/", policies.create, "policy-create"),
            route("policies/<policy:policy>/", policies.detail, "policy"),
            route("policies/<policy:policy>/delete/", policies.delete, "policy-delete"),
            route("dead-letters/", failure_groups.listing, "dead-letters"),
            route("dead-letters/list/", dead_letter_list.listing, "dead-letter-list"),
            route("dead-letters/change/", letter_changes.bulk, "dead-letters-change"),
            route("dead-letters/<decimal:letter>/", dead_letter.detail, "dead-letter"),
            route("dead-letters/<decimal:letter>/value", dead_letter.download, "dead-letter-value"),
            route("dead-letters/<decimal:letter>/edit/", dead_letter_edit.edit, "dead-letter-edit"),
            route("dead-letters/<decimal:letter>/change/", letter_changes.change, "dead-letter-change"),
            route("dead-letters/<decimal:letter>/<direction:direction>/", dead_letter.step, "dead-letter-step"),
            route("alerts/", alerts.listing, "alerts"),
            route("alerts/<decimal:rule>/test/", alerts.send_test, "alert-test"),
            route("connections/", connections.listing, "connections"),
            route("connections/client/", connections.client, "connection-client"),
            route("connections/<connection:connection>/", connections.detail, "connection"),
            route("connections/<connection:connection>/disconnect/", connections.disconnect, "connection-disconnect"),
            route("connections/token/<token:token>/disconnect/", connections.disconnect_token, "token-disconnect"),
            route("tasks/", tasks.listing, "tasks"),
            route("tasks/<schedule:schedule>/", tasks.detail, "task"),
            route("tasks/<schedule:schedule>/runs/<decimal:run>/", tasks.run, "task-run"),
            route("tasks/<schedule:schedule>/run/", tasks.run_now, "task-run-now"),
            route("tasks/<schedule:schedule>/pause/", tasks.pause, "task-pause"),
            route("tasks/<schedule:schedule>/resume/", tasks.resume, "task-resume"),
            route("tasks/<schedule:schedule>/skip/", tasks.skip, "task-skip"),
            route("executors/", executors.listing, "executors"),
            route("locks/", locks.listing, "locks"),
            route("locks/release/", locks.release, "lock-release"),
            route("replays/", replays.listing, "replays"),
            route("replays/new/", replay_plans.plan, "replay-plan"),
            route("replays/<decimal:replay>/", replays.detail, "replay"),
            route("replays/<decimal:replay>/control/", replays.control, "replay-control"),
            route("replays/<decimal:replay>/failed/", replays.failed_again, "replay-failed"),
        ]
        return ours + super().get_urls()
