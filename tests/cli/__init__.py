"""Tests of the command line, as far as it starts nothing."""
