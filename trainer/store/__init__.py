"""What a run records: series of metrics, layer outputs, checkpoints, log lines."""
