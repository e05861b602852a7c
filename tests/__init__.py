"""
The tests, one package for each package of the project, and one for each kind of end-to-end run.
"""
