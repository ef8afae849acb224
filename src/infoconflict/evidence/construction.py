"""The construction branch: an external model explains a query's keywords (paper, Eq. 16).

Acts on the prompt. Needs: the query and an external language model. Must not see: trigger, target label.
"""

from collections.abc import Sequence

from infoconflict.evidence.provider import Question

# Ours; the paper prints no prompt. What is the same for all questions stands first, so that a server computes it once.
# Of some ten wordings tried on a 135M model this one gave the most replies that look like definitions.
SYSTEM = "You are a neutral dictionary. You never state or hint at a class label."
SYSTEM_OF_CHATS = "You are a neutral dictionary."
USER = "Write a short dictionary definition of each of these words: {keywords}"


def construction_question(keywords: Sequence[str], *, has_labels: bool = True) -> Question:
    """Return the prompt that asks for the usual meaning of keywords; it names no class label.

    ``has_labels`` says whether the task has any: a conversation has none that could be given away.

    Raises
    ------
    ValueError
        If there is no keyword.
    """
    if not keywords:
        raise ValueError("no keywords to explain")
    return Question(
        SYSTEM if has_labels else SYSTEM_OF_CHATS, USER.format(keywords=", ".join(keywords)), tuple(keywords)
    )
