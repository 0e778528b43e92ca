"""A Django app that hands work to an executor in each kind of process, for the tests of what becomes of it."""
