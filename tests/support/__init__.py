"""
What several test packages need: one concept a module.
"""
