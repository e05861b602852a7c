"""
Tests of L{mem_continuity.gateway}.
"""
