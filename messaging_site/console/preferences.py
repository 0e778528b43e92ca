"""A reader's own choices, kept in cookies so that the server draws the page right at once, without a script.

One POST route sets them; `navigation.shell` reads them for every page.
"""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from messaging_site.console.permissions import any_staff

CHOICES: Final[dict[str, tuple[str, ...]]] = {"theme": ("auto", "light", "dark"), "keys": ("on", "off")}
"""What can be chosen; the first of each is the default."""
COOKIE_SECONDS: Final = 365 * 24 * 3600


def value(request: HttpRequest, name: str) -> str:
    """The choice made, or the default."""
    chosen = request.COOKIES.get(_cookie(name), "")
    return chosen if chosen in CHOICES[name] else CHOICES[name][0]


@any_staff
@require_POST
def choose(request: HttpRequest) -> HttpResponse:
    """Keeps the choices in the form and goes back to the page it came from."""
    chosen = {name: request.POST[name] for name in CHOICES if name in request.POST}
    if not chosen or any(text not in CHOICES[name] for name, text in chosen.items()):
        return HttpResponseBadRequest("no such choice", content_type="text/plain")
    response = HttpResponseRedirect(_return_to(request))
    for name, text in chosen.items():
        response.set_cookie(
            _cookie(name),
            text,
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="Lax",
            secure=request.is_secure(),
        )
    return response


def _cookie(name: str) -> str:
    return f"waystation_{name}"


def _return_to(request: HttpRequest) -> str:
    target = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        return target
    return reverse("admin:index")
