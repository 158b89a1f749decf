"""The command line: reads the settings of one command, and hands them to `bootstrap`."""
