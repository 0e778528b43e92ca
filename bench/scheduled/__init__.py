"""The application whose tasks the benchmarks have due and done; a task worker loads it by WAYSTATION_APPS."""
