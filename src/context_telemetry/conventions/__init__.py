"""The conventions: names as data, the constants generated from them, how each metric derives.

Nothing is imported here, so that `conventions.names` alone costs next to nothing.
"""
