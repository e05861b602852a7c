"""
What a continuity implementation must survive, one numbered test each.  C{docs/conformance.md} has the table.
"""
