"""Videos to shards: scan, extract, verify, synth."""
