#!/usr/bin/env bash
# Train a recipe with torchrun, on one machine or the same line on each of several:
#   examples/torchrun.sh recipes/llava_next_7b/cal.yaml data.train=mix.json data.image_root=images
#   NODES=2 HEAD=node0:29500 examples/torchrun.sh …      # on both
# This is plain data parallel. Sharding is the recipe's then, as trainer.fsdp and trainer.fsdp_config (docs/sharded.md);
# with accelerate launch it is a file of recipes/accelerate/ (docs/cluster.md).
set -euo pipefail
if command -v nvidia-smi > /dev/null; then found=$(nvidia-smi --list-gpus | wc -l); else found=1; fi
# With c10d nobody has to be told its rank, and HEAD is any of the machines, the same on all.
exec torchrun --nnodes "${NODES:-1}" --nproc-per-node "${PROCESSES:-$found}" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost:0}" --rdzv-id "${RUN_ID:-contralign}" \
  -m contralign train "$@"
