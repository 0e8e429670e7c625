"""Published numbers of records."""

from contralign.recipe.published_sizes import PublishedCount, published_count


def test_files_are_known_by_their_names_wherever_they_lie():
    assert published_count(["anywhere/else/llava_v1_5_mix665k.json"]) == PublishedCount(records=665_298)


def test_several_files_count_together_and_one_rounded_number_rounds_all():
    count = published_count(["blip_laion_cc_sbu_558k.json", "mgm_pretrain.json"])
    assert count == PublishedCount(records=558_128 + 1_200_000, is_exact=False)


def test_an_unknown_file_leaves_the_number_open():
    assert published_count(["llava_v1_5_mix665k.json", "mine.json"]) is None
