"""Pre-training: `run.py` runs that of any system, `systems.py` says what each is made of."""
