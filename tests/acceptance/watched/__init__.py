"""A Django app whose tasks are watched in a browser."""
