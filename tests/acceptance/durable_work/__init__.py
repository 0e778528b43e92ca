"""A Django app with durable background functions, for the test that kills their workers."""
