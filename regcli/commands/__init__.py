"""What each command does, from files to files; the command line above it only parses and prints."""
