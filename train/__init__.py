"""Shards to trained Temporal Segment Networks: fit, evaluate, fuse."""
