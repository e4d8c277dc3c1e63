"""Audio: decode, resample, encode, ingest, and read back what was stored."""
