"""Fine-tuning: `family.py` runs any family of tasks, a module each says what one is made of."""
