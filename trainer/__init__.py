"""Training with tricks: PyTorch, pydantic and the store. Nothing here knows of the web."""
