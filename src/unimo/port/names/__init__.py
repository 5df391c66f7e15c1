"""Which tensors of another format make which parameter of ours: tables with their inverses, no values."""
