#!/usr/bin/env bash
# Snakemake runs this once in the new environment. audiocraft's own pins (torch 2.1, torchvision, xformers) cannot be
# installed beside the others; what it imports is in prompted.yaml.
set -euo pipefail
python -m pip install --no-deps audiocraft==1.3.0
