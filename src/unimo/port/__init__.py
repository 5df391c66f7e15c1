"""Checkpoints of other formats <-> ours: `files` reads them, `names` translates, `parity` verifies."""
