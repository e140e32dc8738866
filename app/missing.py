"""What was asked for and is not there."""


class RunMissing(LookupError):
    """No run has this number or name."""

    def __init__(self, run: int | str) -> None:
        super().__init__(f"there is no run {run}")
