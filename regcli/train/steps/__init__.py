"""Training of step networks: equilibria (deq) and unrolled baselines."""
