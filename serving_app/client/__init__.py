"""Clients of a serving app, and the half of the gateway that is one: following routes and calling versions.

Nothing here imports TensorFlow; Ray is imported only by what calls through handles.
"""
