"""Results on disk: HDF5 files, fields, checkpoints, provenance, and what they summarise."""
