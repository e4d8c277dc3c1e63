"""Fetching what others publish: resumable transfers, checks, safe unpacking, snapshots of the Hugging Face hub."""
