"""Servers of the suite's own: the plain Ray Serve application, and ceilings that serve no model."""
