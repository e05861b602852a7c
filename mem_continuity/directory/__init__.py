"""
Where records live: the buffer of all active clients.
"""
