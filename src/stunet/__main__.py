"""`python -m stunet COMMAND ...`: the command line, also where torchrun starts it."""

from stunet.cli.main import main

if __name__ == "__main__":
    main()
