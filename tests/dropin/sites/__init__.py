"""
Mail setups as sites write them.  No module here knows this project: the tests change one line of their text.

Each has C{listen(reactor, context, journal)}: it listens on loopback, writes what its own code sees to the journal and returns
the port.
"""
