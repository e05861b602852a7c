"""
A mail server for `twistd -ny site.tac`: the endpoint and the file for its journal come from the environment.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import Application
from twisted.internet import reactor

from tests.dropin.sites import service as mail


class Journal(list):
    """
    Entries go to a file at once.
    """

    def append(self, entry: Any) -> None:
        with open(os.environ["SITE_JOURNAL"], "a", encoding="utf-8") as file:
            file.write(f"{entry}\n")


application = Application("mail")
service = mail.make_service(reactor, os.environ["SITE_LISTEN"], Journal())
service.setServiceParent(application)
