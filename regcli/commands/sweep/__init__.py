"""`regcli register --sweep`, on files."""
