"""WHERE: stores, executors, leases, the training launcher and settings."""
