"""`python -m fastrnn` is `fastrnn`."""

from fastrnn.cli import main

if __name__ == "__main__":
    main()
