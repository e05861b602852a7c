"""
The client side.
"""
