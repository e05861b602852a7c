"""
Real networks on one machine, for tests, the demonstration and the benches.

L{Lab} builds a handset and a server out of network namespaces, with two separate networks between them, C{wlan} and
C{xg}. Each can fall silent the way a lost WLAN does: nothing comes through and nobody is told.  The plain kind is made
of veth pairs and runs at full speed; the emulated kind has a delay, a rate, a queue and a loss of its own.  Sockets of
both machines can be opened in one process, see L{Lab.inside}.

L{LoopbackLab} has the same interface for those who are not root; L{available} tells why L{Lab} cannot be had.
"""

from __future__ import annotations

from tests.netlab.base import BaseLab, Network
from tests.netlab.errors import LabError
from tests.netlab.lab import Lab
from tests.netlab.loopback import LoopbackLab
from tests.netlab.namespaces import available
from tests.netlab.shape import Counters, Shape, Traffic

__all__ = ["BaseLab", "Counters", "Lab", "LabError", "LoopbackLab", "Network", "Shape", "Traffic", "available"]
