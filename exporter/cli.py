"""The roof."""


def main() -> None:
    """Entry point; the commands land here."""
