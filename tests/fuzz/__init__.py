"""Inputs that nobody would write, for everything that reads what others have written.

    python -m tests.fuzz --minutes 10 [TARGET...]

Each target takes one input and checks what holds for any: the only exceptions are ServingErrors, none of them is a
fault of our own, and nothing takes long. The suite of tests runs every target for seconds, always with the same inputs;
the command goes on with others until its time is over.
"""
