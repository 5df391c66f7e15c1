"""Stage `demo`: real pictures with captions, pictures without, and sentences, from packages that anyone can install."""
