"""Tricklab's web, queue and worker. A training is config in, rows out."""
