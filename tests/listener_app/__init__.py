"""An application for worker processes of the tests: records say themselves what becomes of their worker."""
