"""The tests of labbot."""
