"""
Sessions that outlive the connection they were begun on.

The public names.  Each is loaded when it is first asked for, so that importing the package, or one part of it, brings along
nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mem_continuity.client import ContinuityLost, DeviceEndpoint, Path, Roamer, RoamingEndpoint, roamer_of
    from mem_continuity.core.policy import Policy, PolicyError, RoamingPolicy
    from mem_continuity.server import Claim, ContinuityFactory, ContinuityRealm, continuous

__version__ = "0.1.0"

__all__ = [
    "Claim",
    "ContinuityFactory",
    "ContinuityLost",
    "ContinuityRealm",
    "DeviceEndpoint",
    "Path",
    "Policy",
    "PolicyError",
    "Roamer",
    "RoamingEndpoint",
    "RoamingPolicy",
    "continuous",
    "roamer_of",
]

_HOMES = {
    "mem_continuity.client": ("ContinuityLost", "DeviceEndpoint", "Path", "Roamer", "RoamingEndpoint", "roamer_of"),
    "mem_continuity.core.policy": ("Policy", "PolicyError", "RoamingPolicy"),
    "mem_continuity.server": ("Claim", "ContinuityFactory", "ContinuityRealm", "continuous"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(home), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
