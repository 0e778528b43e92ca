"""Cron expressions with Spring's syntax and Spring's answers, pure.

Six fields, separated by spaces: second, minute, hour, day of month, month, day of week. `expression` answers by the
wall clock, `zoned` by instants of a time zone, `words` says it in English.

The answers are those of Spring's `CronExpression`, but for what follows.

- `L-28` and above: in a month that is too short for it there is no firing. Spring goes back into the month before, and
  may answer with the same instant for ever.
- Changes of the clock by less than an hour (Australia/Lord_Howe), by a day (Pacific/Apia in 2011) or beside the full
  hour (America/St_Johns until 2011): each wall time that exists fires, once in each pass. Spring loses some, or fires
  beside the expression.
- `1W`, asked from within the first days of a month that begins with a weekend: it fires on Monday. Spring skips it,
  asked from Sunday the 2nd or where it stands in a list.
- A rare date is looked for over 41 years, which covers each combination there is. Spring gives up after 366 steps.
- Where midnight does not exist, the rest of the day fires. Spring does so since 7.0; 6.2 leaves the whole day out.
- Refused, though Spring takes them by accident: a plus sign before a number, `?` in a list, and a name beside another
  or beside a number (`JAN2`, which Spring reads as 12).
"""
