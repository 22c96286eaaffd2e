"""`regcli register`, on files."""
