"""Figures: the only package that imports matplotlib; records go in, figures come out."""
