"""
Tests of the server's side, most of them on an unmodified C{IMAP4Server} in memory and on a clock.
"""
