"""Stage `regions`: pictures -> detector regions with pooled features, in a feature store."""
