import subprocess
from pathlib import Path

from contralign.ablation.slurm import sbatch_script

WORDS = ["ablate", "a b.yaml", "seeds=[0,1]", "--output", "/out", "--worker"]


def test_an_array_of_workers_runs_the_same_command(tmp_path):
    script = sbatch_script("noise", WORDS, tmp_path / "logs", workers=8, folder=Path("/work/my project"))
    assert "#SBATCH --array=0-7" in script
    assert f"#SBATCH --output={tmp_path}/logs/slurm-%A_%a.log" in script
    assert "cd '/work/my project'" in script
    assert script.endswith("contralign ablate 'a b.yaml' 'seeds=[0,1]' --output /out --worker\n")
    assert "gpus" not in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_several_processes_a_worker_are_started_by_torchrun(tmp_path):
    script = sbatch_script("noise", WORDS, tmp_path, workers=1, processes=4, folder=tmp_path)
    assert "torchrun --standalone --nproc-per-node 4 -m contralign ablate" in script
    assert "#SBATCH --gpus-per-node=4\n#SBATCH --output" in script
    assert "#SBATCH --cpus-per-task=4" in script
