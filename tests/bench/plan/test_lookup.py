from __future__ import annotations

import pytest

from contralign.bench.plan.lookup import by_name


def test_a_known_name_gives_its_entry():
    assert by_name({"a100": 1}, "a100", "GPU") == 1


def test_case_does_not_hide_the_close_name():
    with pytest.raises(ValueError, match=r"GPU 'A100' is unknown: did you mean a100"):
        by_name({"a100": 1, "h100": 2}, "A100", "GPU")


def test_a_name_like_no_other_lists_all():
    with pytest.raises(ValueError, match="GPU 'zzz' is unknown: known are a100, h100"):
        by_name({"a100": 1, "h100": 2}, "zzz", "GPU")
