"""`python -m tradelib.cli`."""

from tradelib.cli import main

if __name__ == "__main__":
    main()
