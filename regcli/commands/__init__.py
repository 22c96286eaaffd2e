"""Commands, from files to files; the command line above them only parses and prints."""
