"""
The agent.
"""
