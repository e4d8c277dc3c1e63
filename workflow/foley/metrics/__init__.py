"""Metrics: what is measured of a classifier or a generator, with intervals."""
