"""
The server's side: the factory that a site puts around its own, and the realm that it may put around its own.
"""

from __future__ import annotations

from mem_continuity.server.avatars import ContinuityRealm
from mem_continuity.server.factory import ContinuityFactory, continuous
from mem_continuity.server.table import Claim

__all__ = ["Claim", "ContinuityFactory", "ContinuityRealm", "continuous"]
