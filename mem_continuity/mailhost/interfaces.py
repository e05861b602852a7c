"""
What the mailhost's mailboxes and its protocol say to each other beyond Twisted's interfaces.
"""

from __future__ import annotations

from zope.interface import Interface


class IExpungeListener(Interface):
    """
    A mailbox listener that wants to know at once when messages were removed by others, to tell as soon as it may.
    """

    def messagesVanished() -> None:
        """
        C{take_expunged} of the mailbox has something to give.
        """
