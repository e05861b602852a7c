"""
What both ends have in common on the Twisted side.
"""
