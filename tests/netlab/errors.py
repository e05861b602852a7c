"""
What goes wrong in a lab.
"""

from __future__ import annotations


class LabError(Exception):
    """
    The lab cannot be built, or cannot do what was asked; the text says what is wrong and what to do.
    """
