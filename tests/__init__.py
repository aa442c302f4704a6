"""Tests of the product. What several of them share lies in conftest.py and in the zoo of models."""
