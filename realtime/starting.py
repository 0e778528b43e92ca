"""Where a topic ends now: for a page that shows what the database holds and goes on from there by live push."""

from __future__ import annotations

from brokers import topic_log
from brokers.errors import TopicNotFound
from brokers.topics import lookup
from realtime import positions


def position(topic: str) -> str:
    """The position token after a topic's last record, for SUBSCRIBE's `resume` or an EventSource's `last_event_id`.

    Runs on Django's connection. Read it in one REPEATABLE READ transaction with what the page shows: when rows and
    records are written in one transaction, the stream then begins with the first change that the page does not show.
    Raises `TopicNotFound`.
    """
    info = lookup(topic)
    ends = topic_log.ends_of_topic(info.id)
    if not ends:
        raise TopicNotFound(f"there is no topic {topic} any more")
    return positions.encode(info.id, [each.latest_offset for each in ends])
