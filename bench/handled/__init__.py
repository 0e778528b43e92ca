"""The application whose listeners the benchmarks measure; a worker process loads it by WAYSTATION_APPS."""
