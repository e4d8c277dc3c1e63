"""The studies of generated audio: what diffusion models make, and whether it helps a classifier (`diffusion`,
`interpolation`)."""
