"""Modified (steric) Poisson-Nernst-Planck solver."""
