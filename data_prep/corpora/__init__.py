"""Stage `corpora`: public corpora of texts, pairs and images -> the files and token shards that pre-training reads."""
