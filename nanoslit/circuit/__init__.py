"""The nano-circuitry model and its design-space explorer."""
