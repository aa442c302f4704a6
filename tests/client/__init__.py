"""Tests of what gateways and handle clients have in common, without a cluster."""
