"""
The Twisted side of the layer, the same on both ends: a transport that outlives its links, and what joins it to a session.
"""
