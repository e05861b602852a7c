"""
What is shown to people: C{make demo}.
"""
