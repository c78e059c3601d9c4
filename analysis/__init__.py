"""Studies and benchmarks: programs, nothing that the package imports."""
