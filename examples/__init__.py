"""Applications that show Waystation at work on real data."""
