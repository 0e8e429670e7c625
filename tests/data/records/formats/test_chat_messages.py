from contralign.data.records.formats.chat_messages import chat_sample
from contralign.data.records.messages import IMAGE, open_image

ANSWER = {"role": "assistant", "content": "A dog."}


def first_turn(content, **record):
    sample = chat_sample({"messages": [{"role": "user", "content": content}, ANSWER], **record}, "r", None)
    return sample.turns[0].text, sample.pictures


def test_image_parts_take_the_pictures_beside_them_in_order(red, blue):
    content = [{"type": "image"}, {"type": "text", "text": " or "}, {"type": "image"}]
    assert first_turn(content, images=[red, blue]) == (f"{IMAGE} or {IMAGE}", (red, blue))


def test_an_image_part_may_hold_its_own_picture(red, blue):
    content = [{"type": "image", "image": blue}, {"type": "image", "text": None}, {"type": "text", "text": "What?"}]
    assert first_turn(content, images=[red]) == (f"{IMAGE}{IMAGE}What?", (blue, red))


def test_written_tags_are_places_where_they_are_as_many_as_the_pictures(red):
    assert first_turn("See <image>: what?", image=red) == (f"See {IMAGE}: what?", (red,))


def test_pictures_without_a_place_go_in_front_of_the_first_user_turn(red, blue):
    assert first_turn("What?", images=[red, blue]) == (f"{IMAGE}{IMAGE}What?", (red, blue))


def test_a_written_tag_beside_image_parts_is_text(red):
    content = [{"type": "image"}, {"type": "text", "text": "What is <image>?"}]
    assert first_turn(content, images=[red]) == (f"{IMAGE}What is <image>?", (red,))


def test_a_written_tag_without_pictures_is_text():
    assert first_turn("What is <image>?", images=[]) == ("What is <image>?", ())


def test_a_system_message_stays():
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, ANSWER]
    assert [turn.role for turn in chat_sample({"messages": messages}, "r", None).turns] == [
        "system",
        "user",
        "assistant",
    ]


def test_a_picture_named_by_path_is_found_under_the_root(image_root):
    content = [{"type": "image", "path": "sub/other.png"}, {"type": "text", "text": "What?"}]
    sample = chat_sample({"messages": [{"role": "user", "content": content}, ANSWER]}, "r", image_root)
    assert open_image(sample.pictures[0]).getpixel((0, 0)) == (90, 20, 30)
