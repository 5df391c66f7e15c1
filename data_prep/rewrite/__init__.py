"""Stage `rewrite`: captions -> scene graphs, swapped phrases and similar captions as hard negatives."""
