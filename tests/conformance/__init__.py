"""
The change request, step by step, and the table that says which test shows what.
"""
