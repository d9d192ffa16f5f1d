"""Entry point of `python -m stunet COMMAND ...`, also used by torchrun."""

from stunet.cli.main import main

if __name__ == "__main__":
    main()
