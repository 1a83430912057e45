"""Measurements: speed as ratios within one run, memory, accuracy. Each writes JSON."""
