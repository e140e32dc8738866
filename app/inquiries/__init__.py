"""Inquiries: questions to a worker's device, from being asked to being answered."""
