"""What the faults share."""

from tests.faults.process import folder

__all__ = ["folder"]
