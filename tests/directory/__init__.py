"""
Tests of where records live.
"""
