"""Data sets that never download anything: a name in a recipe and the function that makes the samples.

Called as `function(split, **settings)`; gives a list of `contralign.data.records.messages.Sample`.
"""

from contralign.plugins import Registry

SETS = Registry(
    "contralign.sets",
    "data set",
    {
        "scenes": "contralign.data.sets.scenes.scenes:scenes",
        "easy_vqa": "contralign.data.sets.easy_vqa:easy_vqa",
        "emoji": "contralign.data.sets.emoji.emoji:emoji",
        "emoji_scenes": "contralign.data.sets.emoji.emoji_scenes:emoji_scenes",
        "stamps": "contralign.data.sets.stamps:stamps",
    },
)
