"""A tiny stand-in for the npm package emoji-datasource-google, written by tests."""

import json

from PIL import Image

NAMES = (
    "BANANA", "TIGER", "BELL", "TENT", "ANCHOR", "TRUMPET", "SNAIL", "COIN", "PEACH", "WHALE", "ROCKET", "SPOON",
    "CACTUS", "LADDER", "MAGNET", "OTTER", "POLAR BEAR", "BLACK SCISSORS",
)  # fmt: skip
GROUPS = ("Food & Drink", "Animals & Nature", "Objects", "Travel & Places", "Activities")


def write_emoji_package(folder, extra=()):
    """Things in five groups, a flag, a bare skin tone, and the entries of `extra`; every picture has its own colour."""
    entries = [_entry(name, GROUPS[number % 5]) for number, name in enumerate(NAMES)]
    entries += [_entry("Andorra Flag", "Flags"), _entry("SKIN TONE", "Component"), *extra]
    pictures = folder / "img/google/64"
    pictures.mkdir(parents=True)
    for number, entry in enumerate(entries):
        drawn = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        drawn.paste((number * 10 % 256, 255 - number * 10 % 256, number * 37 % 256, 255), (8, 8, 56, 56))
        drawn.save(pictures / entry["image"])
    (folder / "emoji.json").write_text(json.dumps(entries))
    return folder


def _entry(name, group):
    short = name.lower().replace("black ", "").replace(" ", "_")
    return {"name": name, "short_name": short, "image": f"{short}.png", "category": group}
