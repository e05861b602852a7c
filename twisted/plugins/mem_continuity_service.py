"""
C{twistd mem-continuity}: found by Twisted through the folder alone, there must be no C{__init__.py} beside this file.

Read at every start of any C{twistd} on a system that has the project installed, so it imports nothing of it: the module
named below is loaded only when the command is really asked for.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

mem_continuity = ServiceMaker(
    "mem-continuity",
    "mem_continuity.tap",
    "IMAP sessions that outlive their connections, on a Maildir or a realm of your own",
    "mem-continuity",
)
