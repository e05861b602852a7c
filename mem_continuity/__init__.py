"""
Sessions that outlive the connection they were begun on.
"""

from __future__ import annotations

__version__ = "0.1.0"
