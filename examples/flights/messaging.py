"""What the flights example declares: `up` creates it."""

from brokers import topic

DEPARTURES = topic("departures", partitions=6)
