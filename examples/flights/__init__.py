"""A month of departures from New York (January 2013): what `make demo` publishes, totals, queues and mends.

`flights-2013-01.csv.gz` holds the 27,004 departures of that month as published by the Bureau of Transportation
Statistics, in the form of the nycflights13 data set (public domain, CC0).
"""
