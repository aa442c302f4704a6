"""Tests of the Host and of the arithmetic of batching."""
