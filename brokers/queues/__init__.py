"""Exchanges and queues with RabbitMQ's semantics: routing, publishing, claims under leases, dead-lettering."""
