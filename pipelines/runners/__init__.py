"""Runners: each maps `build_unit` over units on its own engine and adds up the records."""
