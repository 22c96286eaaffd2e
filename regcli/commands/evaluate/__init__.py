"""`regcli evaluate`, on files."""
