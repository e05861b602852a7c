"""
The agent: a mail program that knows nothing of continuity talks to it on this host, and it holds the session with the server.
"""
