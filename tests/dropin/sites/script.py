"""
A mail server as a script: C{python script.py KEYS JOURNAL}.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as running
from twisted.internet.ssl import PrivateCertificate

from tests.dropin.sites.service import MailFactory


class Journal(list[str]):
    """
    Entries go to a file at once.
    """

    def append(self, entry: str) -> None:
        with open(sys.argv[2], "a", encoding="utf-8") as file:
            file.write(f"{entry}\n")


if __name__ == "__main__":
    reactor: Any = running
    context = PrivateCertificate.loadPEM(Path(sys.argv[1]).read_bytes()).options()
    factory = MailFactory(Journal())
    port = reactor.listenSSL(0, factory, context, interface="127.0.0.1")
    print(f"starting on {port.getHost().port}", flush=True)
    reactor.run()
