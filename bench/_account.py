"""
What the layer's own objects weigh: a walk from the sessions over everything that is ours.

Invariants: each object counts once; objects of Twisted, OpenSSL and the site are not entered; what all sessions share (policy,
hub, table, classes) is not counted.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter, deque
from collections.abc import Iterable
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

from mem_continuity.core.policy import Policy
from mem_continuity.server.hub import Hub
from mem_continuity.server.table import Table

_SHARED: tuple[type, ...] = (
    type,
    ModuleType,
    FunctionType,
    BuiltinFunctionType,
    CodeType,
    FrameType,
    Policy,
    Hub,
    Table,
)
_POINTER = 8
_PLAIN = (bytes, bytearray, memoryview, str, int, float, tuple, list, dict, set, frozenset, deque)


def _ours(one: Any) -> bool:
    module = type(one).__module__
    return module.startswith("mem_continuity.") or isinstance(one, (*_PLAIN, MethodType))


def _name(one: Any) -> str:
    return type(one).__name__


def account(roots: Iterable[Any]) -> dict[str, Any]:
    """
    @return: C{sessions}; C{octets} of one session; C{classes}: octets of one session by class of object, with plain values
        under the class that holds them.
    """
    roots = list(roots)
    seen: set[int] = {id(roots)}
    sizes: Counter[str] = Counter()
    waiting: list[tuple[Any, str]] = [(one, _name(one)) for one in roots]
    while waiting:
        one, holder = waiting.pop()
        if id(one) in seen or one is None or isinstance(one, _SHARED) or not _ours(one):
            continue
        if not isinstance(one, (bytes, bytearray)) and sys.getrefcount(one) > 100000:
            continue
        seen.add(id(one))
        if not isinstance(one, (*_PLAIN, MethodType)):
            holder = _name(one)
        sizes[holder] += sys.getsizeof(one)
        attributes = getattr(one, "__dict__", None)
        if attributes is not None:
            seen.add(id(attributes))  # they stand in the object itself, not in a dict, until somebody asks for one
            sizes[holder] += _POINTER * (len(attributes) + 2)
            waiting += [(other, holder) for other in attributes.values()]
            continue
        waiting += [(other, holder) for other in gc.get_referents(one)]
    count = max(1, len(roots))
    return {
        "sessions": len(roots),
        "octets": sum(sizes.values()) / count,
        "classes": {name: octets / count for name, octets in sizes.most_common()},
    }
