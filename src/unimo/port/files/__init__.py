"""Weight files of others, read as data: nothing that they hold is run."""
