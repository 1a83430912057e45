"""New shards from existing ones, without decoding a video again."""
