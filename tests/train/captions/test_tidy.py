import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltx_train.captions.tidy import tidy


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ("A boat sails. It is red.", "A boat sails. It is red."),
        ("  A boat\n\nsails.  \n", "A boat sails."),
        ("A boat sails.<end_of_utterance>", "A boat sails."),
        ("<|im_start|>A boat sails.<|im_end|>", "A boat sails."),
        ("Assistant: A boat sails.</s>", "A boat sails."),
        ("<think>A fox? No.</think>A boat sails.", "A boat sails."),
        ("<think>A fox? No, it is", ""),
        ("Sure! Here is a caption for the clip:\n\n**A boat sails.**", "A boat sails."),
        ("Here's a detailed description of the video: a boat sails.", "A boat sails."),
        ("Caption: “old” boats sail.", "“old” boats sail."),
        ('"A boat sails."', "A boat sails."),
        ('A sign says "no"', 'A sign says "no"'),
        ("Okay, I can describe the clip. A boat sails.", "A boat sails."),
        ("The video shows a boat.", "A boat."),
        ("In this video clip, we see that a boat sails.", "A boat sails."),
        ("The sequence of frames depicts a boat.", "A boat."),
        ("The scene is calm. The video shop shows a boat.", None),
        ("Sure-footed goats climb: one falls.", "Sure-footed goats climb: one falls."),
        ("Here a boat sails: it is red.", None),
        ("The picture of a man shows cracks.", None),
        ("A boat. A fox. A boat. A fox. A boat.", "A boat. A fox."),
        (" \n<end_of_utterance>", ""),
    ],
)
def test_the_caption_in_an_answer(said, caption):
    assert tidy(said, is_whole=True) == (said if caption is None else caption)


def test_an_answer_that_was_cut_ends_with_a_sentence():
    assert tidy("A boat sails. It turns tow", is_whole=False) == "A boat sails."
    assert tidy("A boat sails. It turns tow", is_whole=True) == "A boat sails. It turns tow"
    assert tidy("A boat sails. It turns.", is_whole=False) == "A boat sails. It turns."
    assert tidy("A boat sails tow", is_whole=False) == "A boat sails tow"


@given(st.text(), st.booleans())
def test_a_caption_is_one_line(said, is_whole):
    caption = tidy(said, is_whole=is_whole)
    assert caption == " ".join(caption.split())
