"""What `regcli register` does, on files."""
