"""The example's pages, at /flights/ (`messaging_site.urls`)."""

from __future__ import annotations

from datetime import date

from django.urls import path, register_converter

from examples.flights import views


class DayConverter:
    """A day in an address, `2013-01-31`."""

    regex = "[0-9]{4}-[0-9]{2}-[0-9]{2}"

    def to_python(self, text: str) -> date:
        """The day; a ValueError for none of the calendar's, which Django takes for another address."""
        return date.fromisoformat(text)

    def to_url(self, day: date) -> str:
        """As it stands in the address."""
        return day.isoformat()


register_converter(DayConverter, "day")

urlpatterns = [
    path("", views.departures, name="flights"),
    path("rates/", views.departure_rates, name="flights_rates"),
    path("exports/", views.ask_for_export, name="flights_exports"),
    path("exports/<slug:export>/", views.export_file, name="flights_export"),
    path("reports/", views.reports, name="flights_reports"),
    path("reports/<day:day>/", views.reports, name="flights_report"),
]
