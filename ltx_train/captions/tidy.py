"""What a caption model says, to a caption."""

import re

THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL | re.IGNORECASE)
TOKENS = re.compile(r"<\|?/?[\w-]+\|?>|\[/?INST\]")  # <end_of_utterance>, <|im_end|>, </s>
ROLE = re.compile(r"^(assistant|answer|caption|description)\s*:\s*", re.IGNORECASE)
# As "Sure! Here is a description of the video."
CHATTER = re.compile(
    r"^((sure|certainly|of course|okay|absolutely)[,.!:] *)?"
    r"((here('s| is)|this is|below is|the following is|I can|I will|I'd)\b[^.:!]*"
    r"\b(caption|descri(be|ption)|paragraph|summary)\b[^.:!]*[.:!] *)?",
    re.IGNORECASE,
)
QUOTED = re.compile(r"""(["'`])(.*)\1""")
# "In the video, we see", "The sequence of frames shows"
FRAMING = re.compile(
    r"^(in )?(this|the|these) (short )?"
    r"((sequence|series) of )?(video|clip|footage|image|picture|photo|scene|frame|picture)s?"
    r"( (clip|sequence|frames))?,? "
    r"(shows?|depicts?|features?|captures?|presents?|displays?|(we|one|you) (can )?see)"
    r"( that)? (?=\w)",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def tidy(answer: str, *, is_whole: bool) -> str:
    """The caption in an answer, on one line: no special tokens, no chatter, nothing twice.

    Of an answer that is not whole the unfinished sentence is left out, unless it is all there is.
    """
    text = " ".join(TOKENS.sub(" ", THOUGHTS.sub(" ", answer)).replace("**", "").split())
    for lead in (ROLE, CHATTER, ROLE, CHATTER, FRAMING):
        text = _without(lead, QUOTED.sub(r"\2", text) if QUOTED.fullmatch(text) else text)
    sentences = [sentence for sentence in SENTENCE_END.split(text) if sentence]
    if not is_whole and len(sentences) > 1 and sentences[-1][-1] not in ".!?":
        del sentences[-1]
    # At temperature 0 a small model may say the same for ever.
    return " ".join(dict.fromkeys(sentences))


def _without(lead: re.Pattern[str], text: str) -> str:
    """The text without a lead, its first letter large again."""
    rest = lead.sub("", text, count=1)
    return text if rest == text else rest[:1].upper() + rest[1:]
