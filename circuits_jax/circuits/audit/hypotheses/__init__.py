"""Tests with a p-value of what a circuit is said to be (docs/statistics.md, "Tests")."""
