"""The Ray shell: the controller actor, the gateway, the servable replica and the app builder.

Nothing is decided here: the core decides, these modules gather events and carry out actions.
"""
