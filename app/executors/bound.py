"""Bound: what a fork server loads first, so that it dies with its worker even while it is loading.

By itself it would notice only when it has loaded torch, seconds later; where workers are killed and
started again that adds up until none gets to work.
"""

from trainer.lifeline import die_with_parent

die_with_parent()
