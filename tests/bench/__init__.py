"""
The benches run: not what they measure.
"""
