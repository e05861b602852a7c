"""
C{twistd mem-continuity} and C{twistd mem-continuity-agent}: found by Twisted through the folder alone, there must be no
C{__init__.py} beside this file.

Read at every start of any C{twistd} on a system that has the project installed, so it imports nothing of it: the modules named
below are loaded only when the command is really asked for.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

mem_continuity = ServiceMaker(
    "mem-continuity",
    "mem_continuity.tap",
    "IMAP sessions that outlive their connections, on a Maildir or a realm of your own",
    "mem-continuity",
)

mem_continuity_agent = ServiceMaker(
    "mem-continuity-agent",
    "mem_continuity.agent.tap",
    "The mail program's end of sessions that outlive their connections: it talks to this, on this host",
    "mem-continuity-agent",
)
