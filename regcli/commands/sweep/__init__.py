"""What `regcli sweep` does, on files."""
