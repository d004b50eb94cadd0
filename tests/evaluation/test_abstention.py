"""Answers that decline, and answers that only talk of not knowing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.evaluation import abstains

DECLINES = [
    "That doesn't ring a bell.",
    "I would need more information to answer.",
    "Not that I know of.",
    "My training data does not cover this.",
    "Bilmiyorum.",
    "Jeg ved det ikke.",
    "Nevím.",
    "Δεν ξέρω.",
    "Saya tidak tahu",
    "Tôi không biết.",
    "En tiedä.",
    "Nem tudom.",
    "I don't know.",
    "I do not know the answer.",
    "I am not sure.",
    "I'm not sure",
    "I have no idea",
    "I have no information about this station.",
    "I am not familiar with that place.",
    "We cannot say.",
    "There is no such station.",
    "No such place exists in New York.",
    "That station does not exist.",
    "This station doesn't appear to exist.",
    "Zoltan Park is fictional.",
    "Unknown",
    "unknown.",
    "N/A",
    "Not sure",
    "I could not find it.",
    "I'm not sure, but the question is a good one.",
    "I have never heard of it.",
    "There is no record of a station by that name.",
    "I can't help with that",
    "I’m sorry, but I can’t help with that.",
    "I'm sorry, I cannot assist with that request.",
    "No idea.",
    "I don't know, but you could ask the library.",
    "I don't know, but it might be helpful to check the map.",
    "As an AI language model, I do not have access to real-time data.",
    "I'm afraid I don't know that.",
    "I've never heard of Zoltan Park.",
    "We have no record of such a person.",
    "There is no information available about this.",
    "It is not known.",
    "The answer is unknown.",
    "Nobody knows.",
    "I'm unable to answer that.",
    "I was unable to find any information.",
    "Never heard of it.",
    "Sorry, no idea.",
    "Beats me.",
    "It could not be determined.",
    "The passage does not say.",
    "I would rather not say.",
    "I don't have enough information to answer.",
    "That's a good question. I don't know.",
    "I'd love to help, but I don't know.",
    "Je ne sais pas.",
    "Ich weiß es nicht.",
    "No lo sé.",
    "我不知道。",
    "わかりません。",
    "모르겠습니다.",
    "Я не знаю.",
    "There are no known records of that park.",
    "I couldn't tell you.",
    "I don't recall.",
    "I honestly have no clue.",
    "Not that I know of; I can't say.",
    "I am not aware of any station with that name.",
    "It is unclear.",
    "I do not have any information on that.",
    "I must decline to answer.",
    "Your guess is as good as mine.",
    "I cannot verify that this place exists.",
    "To my knowledge, there is no place called Zoltan Park.",
    "It isn't a real place.",
    "I'm not certain.",
    "I really couldn't say.",
    "No record of it exists.",
    "Unfortunately, I don't know the answer to that.",
    "I wasn't able to find anything about it.",
    "Not enough information.",
    "I'm just a language model and can't answer that.",
]
ANSWERS = [
    "",
    "Brooklyn",
    "It is in Queens.",
    "I know that it is in Queens.",
    "The Unknown Soldier stands in Queens.",
    "I'm sure it is Brooklyn.",
    "I'm not sure, but I think it is in Queens.",
    "I don't know exactly, but it is probably in the Bronx.",
    "Nobody knows better than I: Queens.",
    "Known as the Great White Way, it is in Manhattan.",
    "Visitors were unaware that it is in Queens.",
    "I'm not certain, but it is in Queens",
    "I'm not certain, but it's in Queens.",
    "I don't know for sure. Probably Queens.",
    "It is in Queens, but I'm not sure.",
    "Queens, I think, though I'm not certain.",
    "Many people do not know that it is in Queens.",
    "The architect was not sure of the design, so it was built in 1931.",
    "There is no charge to enter the park.",
    "There is no subway on Staten Island.",
    "He could not find work and moved to Queens.",
    "The author is unknown to most readers.",
    "It is known as the Met.",
    "They had never heard of jazz before 1917.",
    "I'm not sure. Maybe Queens?",
    "It was not designed by him but by Cass Gilbert.",
    "She had no idea that it would become famous.",
    "No, it is in Queens.",
    "None",
    "I can tell you that it is in Queens.",
    "I have no doubt that it is Queens.",
    "I think it is in Queens.",
    "It opened in an unknown year, 1913 perhaps.",
    "Not Brooklyn but Queens.",
    "I am certain that it's Queens.",
    "We know it as the Flatiron Building.",
    "If I had to guess, Queens.",
    "I can't be sure, but my best guess is Queens.",
    "The plans could not be realised until 1931.",
    "It does not cross the river.",
    "The record of the city is in Queens.",
    "I'm not completely sure; it might be Queens.",
    "Although I'm not sure, I believe it's Queens.",
    "I'd say Queens.",
]


@pytest.mark.parametrize("text", DECLINES)
def test_it_declines(text):
    assert abstains(text) == 1


@pytest.mark.parametrize("text", ANSWERS)
def test_it_answers(text):
    assert abstains(text) == 0


@pytest.mark.parametrize("text", ["I don't know.", "No idea.", "There is no such place."])
def test_writing_makes_no_difference(text):
    assert abstains(text.replace("'", "’").upper()) == 1
    assert abstains(f"  **{text}**\n") == 1


@given(st.text(max_size=200))
def test_any_text_can_be_judged(text):
    assert abstains(text) in {0, 1}
