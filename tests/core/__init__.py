"""
Tests of the protocol's rules.  They need no reactor: time and octets are handed in.
"""
