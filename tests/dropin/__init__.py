"""
The drop-in as third parties meet it: setups that know nothing of this project, first as they are, then with the one changed line.
"""
