"""What a training step costs on machines we do not have: counted operations and bytes, nothing measured.

`models` and `gpus` hold numbers from public sources, `counts` turns a model and a mode into operations and bytes,
`predict` turns those into seconds and hours, `render` prints them. `docs/plan.md` checks the result against the paper.
"""

from __future__ import annotations

from contralign.bench.plan.predict import Plan, predict, predict_all
from contralign.bench.plan.render import plan_dict, table

__all__ = ["Plan", "plan_dict", "predict", "predict_all", "table"]
