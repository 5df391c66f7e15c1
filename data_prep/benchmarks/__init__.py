"""Benchmarks of understanding, in their public formats and the release's -> examples.jsonl, with images.jsonl."""
