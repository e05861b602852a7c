"""
The gateway: continuity in front of any IMAP server.  The inner end of a session is a connection to an I{upstream}.
"""
