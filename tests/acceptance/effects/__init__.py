"""An application whose listener notes each effect, for tests that kill what runs it."""
