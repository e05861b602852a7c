"""
The rules of the continuity protocol: octets in, events out, time handed in.

Nothing below this package imports L{twisted.internet}; a test walks the imports.
"""
