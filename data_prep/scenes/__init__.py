"""Composed pictures of which everything is known: what is where, in which colour, and what may truly be said. Ours.

scene (what is drawn by chance, and what holds in it) -> sentences (captions, rewrites, questions) and paint (cut-outs).
"""
