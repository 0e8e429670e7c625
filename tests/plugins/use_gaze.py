"""Run in a process that has both packages: what each of them adds, by name and as objects. Prints JSON."""

import json
import sys

from contralign import CalConfig
from contralign.contrast.registry import CONTRASTS, contrast_named
from contralign.data.sets import SETS
from contralign.description import describe
from contralign.evaluation.registry import EVALUATIONS
from contralign.reading import contrast_settings
from contralign.training.cal_settings import CalSettings
from contralign.weighting.registry import WEIGHTINGS

REGISTRIES = (WEIGHTINGS, CONTRASTS, SETS, EVALUATIONS)


def refusal(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ValueError as error:
        return str(error)
    raise AssertionError("nothing was refused")


names = [registry.names() for registry in REGISTRIES]
assert not {"gaze", "torn"} & {module.partition(".")[0] for module in sys.modules}, "names import no plug-in"
CalSettings(weighting="steady", options={"slope": 2.0}, contrast={"name": "grey", "shade": 0})
assert "gaze.grey" not in sys.modules

from gaze.grey import GreyPicture  # noqa: E402
from gaze.steady import Steady  # noqa: E402

named = CalConfig(weighting="steady", options={"slope": 2.0}, contrast={"name": "grey", "shade": 0})
objects = CalConfig(weighting=Steady(slope=2.0), contrast=GreyPicture(shade=0))
assert named.token_weighting() == objects.token_weighting() == Steady(slope=2.0)
assert named.second_look() == objects.second_look() == GreyPicture(shade=0)
assert named.described() == objects.described()

print(
    json.dumps(
        {
            "names": names,
            "described": describe(Steady()),
            "scored": contrast_settings(GreyPicture()),
            "torn": [refusal(registry.load, "torn") for registry in REGISTRIES],
            "config": refusal(CalConfig, weighting="torn"),
            "taken": refusal(CalConfig, weighting="dft"),
            "setting": refusal(contrast_named, {"name": "grey", "shades": 1}),
            "short": refusal(contrast_named, "grey:1"),
            "others": [type(CalConfig(weighting=name).token_weighting()).__name__ for name in ("cal", "vig", "tpo")],
        }
    )
)
