"""report.html: one file that shows what a registration did, to look at and to print."""
