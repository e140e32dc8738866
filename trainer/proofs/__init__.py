"""Proofs: what a trick changes in one step, and whether a training can be repeated."""
