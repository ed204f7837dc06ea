"""Messengers, one folder each."""
