"""What `make serve` shows: two small models, and how they come about."""
