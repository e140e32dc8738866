"""The fault suite: every promise of docs/reliability.md, with the fault that would break it.

`pytest tests/faults` runs each at a small size; `make faults` runs them long and prints a line
per promise.
"""
