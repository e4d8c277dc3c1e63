"""The one training loop, its checkpoints, and models trained as a batch of seeds."""
