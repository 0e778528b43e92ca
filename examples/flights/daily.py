"""The daily report: how many departures the board holds, late, cancelled, and the average delay. Called by the task."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from django.db import connection

ZONE: Final = "America/New_York"
LATE_MINUTES: Final = 15
"""From here on a departure counts as delayed, as the Bureau of Transportation Statistics has it."""

WRITE: Final = """
    with held as (
        select split_part(flight, ' ', 1) as carrier, origin, delay_minutes from flights_departure
    ),
    counted as (
        select carrier, origin, count(*) as flights, count(*) filter (where delay_minutes >= %(late)s) as delayed,
               count(*) filter (where delay_minutes is null) as cancelled,
               coalesce(sum(delay_minutes), 0) as delay_minutes
        from held
        group by grouping sets ((), (carrier), (origin))
    ),
    lines as (
        select carrier is not null as is_carrier,
               jsonb_agg(jsonb_build_object('name', coalesce(carrier, origin), 'flights', flights, 'delayed', delayed,
                                            'cancelled', cancelled, 'delay_minutes', delay_minutes)
                         order by flights desc, coalesce(carrier, origin)) as found
        from counted
        where carrier is not null or origin is not null
        group by 1
    )
    insert into flights_daily_report
        (day, made_at, flights, delayed, cancelled, delay_minutes, by_carrier, by_airport)
    select (clock_timestamp() at time zone %(zone)s)::date, clock_timestamp(), flights, delayed, cancelled,
           delay_minutes, coalesce((select found from lines where is_carrier), '[]'),
           coalesce((select found from lines where not is_carrier), '[]')
    from counted
    where carrier is null and origin is null
    on conflict (day) do update set
        made_at = excluded.made_at, flights = excluded.flights, delayed = excluded.delayed,
        cancelled = excluded.cancelled, delay_minutes = excluded.delay_minutes, by_carrier = excluded.by_carrier,
        by_airport = excluded.by_airport
    returning day, flights
"""


def write() -> dict[str, Any]:
    """Writes the report of New York's today, or writes it anew; says of which day, and of how many departures.

    One statement, and so one moment: all its numbers belong together.
    """
    with connection.cursor() as cursor:
        cursor.execute(WRITE, {"late": LATE_MINUTES, "zone": ZONE})
        row = cursor.fetchone()
    assert row is not None
    day: date = row[0]
    return {"day": day.isoformat(), "flights": row[1]}


def average(numbers: dict[str, int]) -> float | None:
    """Minutes of delay of an average flight that left; None when none has."""
    departed = numbers["flights"] - numbers["cancelled"]
    return numbers["delay_minutes"] / departed if departed else None
