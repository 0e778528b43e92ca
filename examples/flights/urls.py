"""The example's pages, at /flights/ (`messaging_site.urls`)."""

from __future__ import annotations

from django.urls import path

from examples.flights import views

urlpatterns = [path("", views.departures, name="flights")]
