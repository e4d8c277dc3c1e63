"""Studies: what is trained on what, and which table rows come out. One file each."""
