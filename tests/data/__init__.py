"""Tests of scoring datasets."""
