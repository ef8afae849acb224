"""Replies recorded earlier, replayed: for tests, for reviewers without an endpoint, for exact repetition."""

from collections.abc import Callable, Sequence
from pathlib import Path

from infoconflict.errors import UserError
from infoconflict.evidence.provider import Question, Reply, condition
from infoconflict.files import PathLike, read_jsonl


class RecordedReplies:
    """A JSON Lines file of replies as a :class:`~infoconflict.evidence.provider.Provider`.

    A row has a ``reply`` and the ``prompt_sha256`` it answers; with ``keywords`` it also answers other wordings of a
    question about the same words. So a file of evidence rows can be replayed as it is. A row ``{"default": true,
    "reply": "..."}`` answers all other questions; ``{keywords}`` in its reply stands for the question's keywords.

    Raises
    ------
    UserError
        If the file is absent or a row says too little.
    """

    def __init__(self, path: PathLike, *, model: str = "recorded") -> None:
        self.path, self.model = Path(path), model
        if not self.path.is_file():
            raise UserError(f"{path}: no such file of recorded replies; correct the provider's path")
        self._by_prompt: dict[str, Reply] = {}
        self._by_keywords: dict[tuple[str, ...], Reply] = {}
        self._default: str | None = None
        for number, row in enumerate(read_jsonl(self.path), start=1):
            text = row.get("reply")
            if not isinstance(text, str):
                raise UserError(f"{path}, row {number}: has no text under 'reply'; add it or delete the row")
            if row.get("default"):
                self._default = text
                continue
            if "prompt_sha256" not in row and not row.get("keywords"):
                raise UserError(
                    f"{path}, row {number}: has neither 'prompt_sha256' nor 'keywords'; add one, or '\"default\": true'"
                )
            if row.get("status") in ("no_keywords", "failed"):
                continue  # evidence rows that answer nothing
            reply = self._reply(text, row.get("prompt_tokens", 0), row.get("completion_tokens", 0))
            if digest := row.get("prompt_sha256"):
                self._by_prompt.setdefault(digest, reply)
            if words := row.get("keywords"):
                self._by_keywords.setdefault(tuple(sorted(words)), reply)

    def ask_all(self, questions: Sequence[Question], on_reply: Callable[[Question, Reply], None]) -> None:
        """Replay a reply for each question, in order.

        Raises
        ------
        UserError
            If a question has neither a recorded nor a default reply; none is handed over then.
        """
        answered = [(question, self._find(question)) for question in questions]
        if missing := [question for question, reply in answered if reply is None]:
            raise UserError(
                f"{self.path}: no reply for {len(missing)} of {len(questions)} questions, the first about "
                f"'{', '.join(missing[0].keywords) or missing[0].user[:80]}'; record them or add a row with "
                '"default": true'
            )
        for question, reply in answered:
            assert reply is not None
            on_reply(question, reply)

    def _find(self, question: Question) -> Reply | None:
        if found := self._by_prompt.get(question.sha256):
            return found
        if question.keywords and (found := self._by_keywords.get(tuple(sorted(question.keywords)))):
            return found
        if self._default is None:
            return None
        return self._reply(self._default.replace("{keywords}", ", ".join(question.keywords)), 0, 0)

    @staticmethod
    def _reply(text: str, prompt_tokens: int, completion_tokens: int) -> Reply:
        status = condition(text)
        return Reply(
            status=status,
            text=text,
            attempts=0,  # nobody was asked
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            reason="" if status == "ok" else f"reply is {status}",
        )
