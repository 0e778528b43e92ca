"""Durable background work: `@background(durable=True)`. A call is a row with a lease; Celery only rings for it.

`declared` holds the decorated functions, `calls` what a call answers and how it is looked at, `doing` and `giving_up`
what a worker does with it, `replaying` how a dead letter is called anew. Statements are in `sql/background.sql`.
"""
