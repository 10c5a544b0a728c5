"""`python -m cacheclip` is the `cacheclip` command."""

from cacheclip.cli.main import main

if __name__ == "__main__":
    main()
