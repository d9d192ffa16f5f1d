"""placeholder"""

from dataclasses import dataclass


@dataclass
class Demo:
    """Demo."""

    def run(self) -> int:
        """x"""
        return 0
