"""
What is measured, against the goals of the project and against peers in the same run: see C{README.md} next to this file.

Invariants: every bench is a module with a command of its own, bounded in count and in time; a figure stands next to its goal and
says honestly whether it was met; a server whose processor time or memory is measured runs in a process of its own.
"""
