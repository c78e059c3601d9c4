"""Many cases: plan, catalogue, dispatch over Dask workers, one data set of all results."""
