"""
Handovers between two real networks: an unmodified client and an unmodified server, each a process of its own in its own network
namespace, and between them C{wlan} and C{xg} of L{tests.netlab.Lab}.

L{tests.handover.server} and L{tests.handover.client} are the two programs, L{tests.handover.programs} starts and asks them.  They
need root, as the lab does.
"""
