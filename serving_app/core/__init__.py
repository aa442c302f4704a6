"""What the system decides, without doing any of it: ids, states, events, actions, routes and errors.

Nothing in this package imports anything but the standard library, reads a clock, logs, or waits.
"""
