"""`regcli features`, on files."""
