"""Files: everything foreign (LPS, headers, damaged files) ends in here."""
