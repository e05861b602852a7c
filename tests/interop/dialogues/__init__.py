"""
What is said to a server to see whether a thing in the middle changes a single octet: dialogues over all that Dovecot offers.

Each begins on a fresh connection with the mailboxes that L{fill} made.  Dates are fixed, so that nothing depends on the time.
"""

from tests.interop.dialogues import exchanges, logins, scripts  # noqa: F401 - they say what they have
from tests.interop.dialogues.registry import DIALOGUES, fill

__all__ = ["DIALOGUES", "fill"]
