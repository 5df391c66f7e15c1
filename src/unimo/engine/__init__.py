"""Training of any task: the loop, one or many processes, schedules, events, checkpoints, resuming."""
