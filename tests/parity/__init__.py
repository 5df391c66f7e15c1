"""Recordings of the original programs, replayed; and, in libraries/, comparisons with other libraries."""
