"""Tests of the shell's parts one by one, without a cluster."""
