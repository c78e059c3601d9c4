"""Evolutionary discovery of the resistance law."""
