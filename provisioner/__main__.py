"""`provisioner` and `python -m provisioner`."""

from provisioner import cli


def main() -> None:
    """Run the command line."""
    cli.main(prog_name="provisioner")


if __name__ == "__main__":
    main()
