"""
The client's side: an endpoint whose connections outlive their links.
"""

from __future__ import annotations

from mem_continuity.client.errors import ContinuityLost
from mem_continuity.client.link import LinkFailed
from mem_continuity.client.paths import DeviceEndpoint, Path
from mem_continuity.client.roamer import Phase, Roamer
from mem_continuity.client.roaming import RoamingEndpoint, roamer_of
from mem_continuity.client.tickets import TicketKeeper

__all__ = [
    "ContinuityLost",
    "DeviceEndpoint",
    "LinkFailed",
    "Path",
    "Phase",
    "Roamer",
    "RoamingEndpoint",
    "TicketKeeper",
    "roamer_of",
]
