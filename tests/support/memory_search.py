"""
Looking for octets in everything that the garbage collector knows: is a secret still held by somebody?
"""

from __future__ import annotations

import gc
from typing import Any


def anywhere(mirrored: bytes) -> list[str]:
    """
    Who holds octets with this text, given backwards so that the question does not answer itself.
    """
    gc.collect()
    needle, found = mirrored[::-1], []
    stack: list[Any] = gc.get_objects()
    seen = {id(stack), id(needle)}
    while stack:
        holder = stack.pop()
        for one in gc.get_referents(holder):
            if isinstance(one, (bytes, bytearray)):
                if len(one) >= len(needle) and id(one) not in seen and needle in one:
                    found.append(type(holder).__name__)
            elif isinstance(one, (dict, tuple)) and not gc.is_tracked(one) and id(one) not in seen:
                seen.add(id(one))
                stack.append(one)
    return found
