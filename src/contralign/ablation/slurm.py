"""An sbatch script: an array of workers on a shared disk, each the same command as a local one."""

import shlex
from collections.abc import Sequence
from pathlib import Path

SCRIPT = """\
#!/bin/bash
# {array} workers of the ablation {name}; more may be submitted at any time, and a killed one costs its step alone.
# Partition, account, time and memory are your cluster's: add them here or give them to sbatch.
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
{gpus}#SBATCH --output={logs}/slurm-%A_%a.log
set -euo pipefail
cd {folder}
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
{command}
"""


def sbatch_script(
    name: str, words: Sequence[str], logs: Path, *, workers: int, processes: int = 1, folder: Path | None = None
) -> str:
    """The script; submit it with `sbatch`, and show the results with `contralign ablate … --show`.

    Args:
        name: of the ablation.
        words: the command line of a worker after `contralign`.
        logs: where the jobs' output goes.
        workers: size of the array.
        processes: of a worker, each with a GPU of its own; above 1 they are started by torchrun.
        folder: where the command runs; None is here.
    """
    start = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m"] if processes > 1 else []
    return SCRIPT.format(
        name=name,
        array=workers,
        last=workers - 1,
        cpus=processes,
        gpus=f"#SBATCH --gpus-per-node={processes}\n" if processes > 1 else "",
        logs=logs.resolve(),
        folder=shlex.quote(str(Path.cwd() if folder is None else folder)),
        command=shlex.join([*start, "contralign", *words]),
    )
