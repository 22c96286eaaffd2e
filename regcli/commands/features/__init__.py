"""What `regcli features` does, on files."""
