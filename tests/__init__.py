"""
The tests, one package for each package of the project, and one for each kind of end-to-end run.

Many are properties, checked by hypothesis.  In the short form (the default) the examples are the same in every run, so that a
change is to blame for a failure and nothing else.  C{MEM_CONTINUITY_LONG=1} looks for new examples, far more and longer ones; a
failure then prints what reproduces it.  What is tested is what happens, not how fast: a busy machine must not fail a test.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = os.environ.get("MEM_CONTINUITY_LONG", "0") not in ("", "0")
"""Whether the long form was asked for."""

settings.register_profile(
    "short", derandomize=True, database=None, deadline=None, max_examples=100, stateful_step_count=40, print_blob=True
)
settings.register_profile(
    "long",
    derandomize=False,
    database=None,
    deadline=None,
    max_examples=3000,
    stateful_step_count=150,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("long" if LONG else "short")
