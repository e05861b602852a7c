"""
Unmodified mail programs on a handset that changes its network in the middle of what they do.

A L{Ground<tests.roaming.ground.Ground>} has the networks, a real Dovecot with the gateway in front of it, and the agent beside
the program; a L{Journey<tests.roaming.journey.Journey>} moves the handset, a L{Meter<tests.roaming.meter.Meter>} looks on.
C{python -m tests.roaming} prints what came of it.
"""
