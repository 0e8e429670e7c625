from contralign.evaluation.metrics.majority import majority_answers, majority_hits


def test_guesses_the_most_frequent_answer_of_the_type():
    guesses = majority_answers([("colour", "Red."), ("colour", "red"), ("colour", "blue"), ("shape", "circle")])
    assert guesses == {"colour": "red", "shape": "circle"}


def test_hits_compare_normalised_and_a_new_type_is_wrong():
    assert majority_hits({"colour": "red"}, [("colour", "RED!"), ("colour", "blue"), ("size", "red")]) == [
        True,
        False,
        False,
    ]
