"""Entry point of the console script and of `python -m stunet COMMAND ...`, also used by torchrun."""


def main() -> None:
    """Run the command."""
    # Imported here, because the workers of a batch import this file again, but need no command line.
    from stunet.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
