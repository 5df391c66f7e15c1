"""Files -> batches: annotations, feature stores, token shards, pictures, tokenizers, masking, order of samples."""
