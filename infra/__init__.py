"""WHERE: storage, Dask clusters, the training launcher, campaigns and settings."""
