"""Stage programs, each `python -m data_prep STAGE`: raw data -> the files and stores that `unimo.readers` opens."""
