"""What `regcli evaluate` does, on files."""
