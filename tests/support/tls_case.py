"""
A test case for tests that use Twisted's TLS, which still hands pyOpenSSL's objects to pyOpenSSL: these warnings are not ours.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial import util
from twisted.trial.unittest import TestCase


def _as_deferred(method: Callable[..., Coroutine[Any, Any, object]]) -> Callable[..., Deferred[object]]:
    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> Deferred[object]:
        return Deferred.fromCoroutine(method(*args, **kwargs))

    return run


class TLSTestCase(TestCase):
    """
    Suppresses Twisted's warnings, also in tests that are coroutines: trial would end the suppression when such a test begins.
    """

    suppress = [  # noqa: RUF012  trial reads it from the class
        util.suppress(category=DeprecationWarning, message="Passing pyOpenSSL"),
        util.suppress(category=DeprecationWarning, message="X509.get_issuer is deprecated"),
    ]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            if name.startswith("test_") and iscoroutinefunction(method):
                setattr(cls, name, _as_deferred(method))
