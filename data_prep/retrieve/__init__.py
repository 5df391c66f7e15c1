"""Stage `retrieve`: similar sentences and similar images for every training caption (X^T and X^I of UNIMO)."""
