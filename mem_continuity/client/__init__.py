"""
The client's side: an endpoint whose connections outlive their links.
"""

from __future__ import annotations

from mem_continuity.client.errors import ContinuityLost
from mem_continuity.client.paths import DeviceEndpoint, Path
from mem_continuity.client.roaming import Roamer, RoamingEndpoint, roamer_of

__all__ = ["ContinuityLost", "DeviceEndpoint", "Path", "Roamer", "RoamingEndpoint", "roamer_of"]
