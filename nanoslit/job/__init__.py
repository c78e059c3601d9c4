"""Batch jobs: scripts for SLURM and PBS, and what happens inside them at the time limit."""
