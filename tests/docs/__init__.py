"""The pages: that they are complete, that their links lead somewhere, that their examples run."""
