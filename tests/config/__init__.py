"""Tests of the configuration: what is read, what is refused, what an edit would change."""
