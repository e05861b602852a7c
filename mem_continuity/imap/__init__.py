"""
What is known here about IMAP, as octets only: nothing below this package opens a socket or asks for the time.
"""
