"""
What a user installs: wheel, source archive and editable checkout.
"""
