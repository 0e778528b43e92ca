"""Marks cookies Secure when the request came over HTTPS, so that one setting serves loopback and a TLS proxy alike.

A proxy on this machine says so by X-Forwarded-Proto, which the web server trusts from loopback alone.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

GetResponse = Callable[[HttpRequest], HttpResponseBase]


def secure_over_https(get_response: GetResponse) -> GetResponse:
    """Django middleware; put it before those that set cookies."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.is_secure():
            for cookie in response.cookies.values():
                cookie["secure"] = True
        return response

    return middleware
