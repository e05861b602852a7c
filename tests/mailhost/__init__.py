"""
Tests of the embedded mailhost.
"""
