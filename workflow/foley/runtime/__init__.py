"""How a rule runs: logging, seeds, progress, the device lease, checkpoints and what code it reaches."""
