"""Faults: what happens when the process is killed, the network lies, the disk is full, and nobody means well."""
