"""
Real mail servers and real mail programs on loopback, and what they have to do with us.
"""
