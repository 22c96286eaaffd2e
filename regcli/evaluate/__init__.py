"""How good a registration is: numbers, and the report that shows them."""
