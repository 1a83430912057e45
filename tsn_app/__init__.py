"""Programs that need both sides, the decoding of videos and the trained networks."""
