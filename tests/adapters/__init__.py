"""Tests of the adapters, and the servers they run against."""
