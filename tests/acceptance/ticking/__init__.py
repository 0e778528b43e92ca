"""A Django app whose tasks write down that they ran, for the tests of beats and workers."""
