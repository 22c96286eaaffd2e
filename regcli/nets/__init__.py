"""Networks: the only place with weights."""
