"""End to end, on a real Ray cluster."""
